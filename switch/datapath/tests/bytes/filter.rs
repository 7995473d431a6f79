//! A filter program and a frame, both from outside: what is taken ends, and nothing panics. Input that begins with a digit
//! is a program as text, other input one in the kernel's binary form; the frame follows behind a zero byte or 64 bytes.

use vswitch_datapath::filter::{Instruction, Program};

/// # Panics
/// It is not so.
pub fn check(data: &[u8]) {
    if data.first().is_some_and(u8::is_ascii_digit) {
        let mut parts = data.splitn(2, |byte| *byte == 0);
        let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
        if let Ok(program) = text.parse::<Program>() {
            program.run(parts.next().unwrap_or_default());
        }
        return;
    }
    let (program, frame) = data.split_at(data.len().min(64));
    let (instructions, _) = program.as_chunks::<8>();
    let mut instructions: Vec<_> = instructions
        .iter()
        .map(|&[a, b, jt, jf, c, d, e, f]| Instruction {
            code: u16::from_le_bytes([a, b]),
            jt,
            jf,
            k: u32::from_le_bytes([c, d, e, f]),
        })
        .collect();
    // Return what was computed, so that most of them end as they have to.
    instructions.push(Instruction {
        code: 0x16,
        jt: 0,
        jf: 0,
        k: 0,
    });
    if let Ok(program) = Program::new(&instructions) {
        program.run(frame);
    }
}
