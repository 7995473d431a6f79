//! Filters of frames: programs of the classic BSD packet filter, as `tcpdump -ddd` writes them.
//!
//! The compiler of filter expressions is libpcap's, in the control tool's place; the daemon takes only its result, holds
//! it against the rules of [`Program::new`] and runs it with the small interpreter below. No program can loop (jumps
//! lead forward only), read outside the frame (it then ends with "no", as bpf(4) says) or make the daemon panic.

use std::str::FromStr;

use thiserror::Error;
use vswitch_api::number::whole;

/// Most instructions of a program: what Linux takes (BPF_MAXINSNS).
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Words of scratch memory (BPF_MEMWORDS).
const WORDS: u32 = 16;

// linux/include/uapi/linux/bpf_common.h
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;
const SIZE_W: u16 = 0x00;
const SIZE_H: u16 = 0x08;
const SIZE_B: u16 = 0x10;
const MODE_IMM: u16 = 0x00;
const MODE_ABS: u16 = 0x20;
const MODE_IND: u16 = 0x40;
const MODE_MEM: u16 = 0x60;
const MODE_LEN: u16 = 0x80;
const MODE_MSH: u16 = 0xa0;
const SRC_X: u16 = 0x08;
const RET_A: u16 = 0x10;
const TXA: u16 = 0x80;

/// One instruction as it travels (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip where a test is true.
    pub jt: u8,
    /// Instructions to skip where it is false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Why a program is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProgramError {
    /// It has none or too many instructions.
    #[error("{0} instructions; 1 to {MAX_INSTRUCTIONS} are allowed")]
    Length(usize),
    /// It does not end with a return.
    #[error("its last instruction is no return")]
    NoReturn,
    /// A jump leads behind the end.
    #[error("instruction {0} jumps behind the end")]
    Jump(usize),
    /// A jump leads back.
    #[error("instruction {0} jumps back, and filters that loop, as those with `protochain`, can't be used")]
    Loop(usize),
    /// An operation that classic BPF does not have.
    #[error("instruction {0} has the unknown code {1:#06x}")]
    Code(usize, u16),
    /// A word of scratch memory that is not there, a division by zero, or a shift by more than 31.
    #[error("instruction {0} has an operand out of range: {1}")]
    Operand(usize, u32),
    /// The text is not a program.
    #[error("it is no program: {0}; `tcpdump -ddd -y EN10MB EXPRESSION | tr '\\n' ,` writes one")]
    Text(String),
}

/// A program that was found to be safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Box<[Instruction]>);

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(instructions: &[Instruction]) -> Result<Self, ProgramError> {
        if instructions.is_empty() || instructions.len() > MAX_INSTRUCTIONS {
            return Err(ProgramError::Length(instructions.len()));
        }
        for (at, instruction) in instructions.iter().enumerate() {
            check(at, *instruction, instructions.len() - at - 1)?;
        }
        match instructions.last() {
            Some(last) if last.code & 7 == RET => Ok(Self(instructions.into())),
            _ => Err(ProgramError::NoReturn),
        }
    }

    /// Whether the program wants this frame.
    #[inline]
    pub fn matches(&self, frame: &[u8]) -> bool {
        self.run(frame) != 0
    }

    /// Runs the program: how many bytes of the frame are wanted; 0: the frame is not.
    pub fn run(&self, frame: &[u8]) -> u32 {
        Machine::default().run(&self.0, frame).unwrap_or(0)
    }
}

/// `COUNT,CODE JT JF K,CODE JT JF K,...`: what `tcpdump -ddd` writes, with commas for its line ends.
impl FromStr for Program {
    type Err = ProgramError;

    fn from_str(text: &str) -> Result<Self, ProgramError> {
        let wrong = |what: &str| ProgramError::Text(what.chars().take(40).collect());
        let mut lines = text.trim_end_matches([',', '\n']).split([',', '\n']);
        let count = lines.next().unwrap_or_default();
        let count: usize = whole(count.trim()).ok_or_else(|| wrong(count))?;
        let instructions = lines.map(|line| instruction(line).ok_or_else(|| wrong(line)));
        let instructions: Vec<_> = instructions.take(MAX_INSTRUCTIONS + 1).collect::<Result<_, _>>()?;
        if instructions.len() != count {
            return Err(ProgramError::Text(format!(
                "{count} instructions are announced, {} are there",
                instructions.len()
            )));
        }
        Self::new(&instructions)
    }
}

fn instruction(line: &str) -> Option<Instruction> {
    let mut words = line.split_whitespace();
    let instruction = Instruction {
        code: whole(words.next()?)?,
        jt: whole(words.next()?)?,
        jf: whole(words.next()?)?,
        k: whole(words.next()?)?,
    };
    words.next().is_none().then_some(instruction)
}

/// `left`: instructions behind this one.
fn check(at: usize, instruction: Instruction, left: usize) -> Result<(), ProgramError> {
    let Instruction { code, jt, jf, k } = instruction;
    let operand = |good: bool| good.then_some(()).ok_or(ProgramError::Operand(at, k));
    let jump = |by: usize| (by < left).then_some(()).ok_or(ProgramError::Jump(at));
    let unknown = Err(ProgramError::Code(at, code));
    if code > 0xff {
        return unknown;
    }
    let (size, mode, operation) = (code & 0x18, code & 0xe0, code & 0xf0);
    match code & 7 {
        LD => match (mode, size) {
            (MODE_ABS | MODE_IND, SIZE_W | SIZE_H | SIZE_B) | (MODE_IMM | MODE_LEN, SIZE_W) => Ok(()),
            (MODE_MEM, SIZE_W) => operand(k < WORDS),
            _ => unknown,
        },
        LDX => match (mode, size) {
            (MODE_IMM | MODE_LEN, SIZE_W) | (MODE_MSH, SIZE_B) => Ok(()),
            (MODE_MEM, SIZE_W) => operand(k < WORDS),
            _ => unknown,
        },
        ST | STX if code & !7 == 0 => operand(k < WORDS),
        ALU => match (operation, code & SRC_X) {
            // Add, subtract, multiply, or, and, exclusive or; negate; all with a register.
            (0x00 | 0x10 | 0x20 | 0x40 | 0x50 | 0xa0, _) | (0x80, 0) | (0x30 | 0x60 | 0x70 | 0x90, SRC_X) => Ok(()),
            (0x30 | 0x90, _) => operand(k != 0),
            (0x60 | 0x70, _) => operand(k < 32),
            _ => unknown,
        },
        JMP => match operation {
            // libpcap's loops have a distance below 0.
            0x00 if code == JMP && (k as i32) < 0 => Err(ProgramError::Loop(at)),
            0x00 if code == JMP => jump(k as usize),
            0x10 | 0x20 | 0x30 | 0x40 => jump(jt.into()).and_then(|()| jump(jf.into())),
            _ => unknown,
        },
        RET if matches!(code & !7, 0 | RET_A) => Ok(()),
        // TAX and TXA.
        7 if matches!(code & !7, 0 | TXA) => Ok(()),
        _ => unknown,
    }
}

/// The two registers and the scratch memory.
#[derive(Default)]
struct Machine {
    a: u32,
    x: u32,
    memory: [u32; WORDS as usize],
}

impl Machine {
    /// None: the program looked behind the end of the frame, or divided by zero.
    fn run(&mut self, program: &[Instruction], frame: &[u8]) -> Option<u32> {
        let mut at = 0;
        loop {
            // A checked program returns before its end.
            let instruction = *program.get(at)?;
            at += 1;
            let Instruction { code, jt, jf, k } = instruction;
            match code & 7 {
                LD => self.a = self.load(code, k, frame)?,
                LDX => {
                    self.x = match code & 0xe0 {
                        MODE_MSH => u32::from(*frame.get(k as usize)? & 0x0f) * 4,
                        _ => self.load(code, k, frame)?,
                    }
                }
                ST => *self.memory.get_mut(k as usize)? = self.a,
                STX => *self.memory.get_mut(k as usize)? = self.x,
                ALU => self.a = compute(code, self.a, if code & SRC_X == 0 { k } else { self.x })?,
                JMP => at += self.distance(code, k, jt, jf),
                RET => return Some(if code & RET_A == 0 { k } else { self.a }),
                _ if code & TXA == 0 => self.x = self.a,
                _ => self.a = self.x,
            }
        }
    }

    fn load(&self, code: u16, k: u32, frame: &[u8]) -> Option<u32> {
        let at = match code & 0xe0 {
            MODE_IMM => return Some(k),
            MODE_LEN => return Some(frame.len() as u32),
            MODE_MEM => return self.memory.get(k as usize).copied(),
            MODE_IND => self.x.checked_add(k)?,
            _ => k,
        };
        let bytes = frame.get(at as usize..)?;
        match code & 0x18 {
            SIZE_B => bytes.first().copied().map(u32::from),
            SIZE_H => bytes.first_chunk().copied().map(u16::from_be_bytes).map(u32::from),
            _ => bytes.first_chunk().copied().map(u32::from_be_bytes),
        }
    }

    fn distance(&self, code: u16, k: u32, jt: u8, jf: u8) -> usize {
        let operand = if code & SRC_X == 0 { k } else { self.x };
        let holds = match code & 0xf0 {
            0x10 => self.a == operand,
            0x20 => self.a > operand,
            0x30 => self.a >= operand,
            0x40 => self.a & operand != 0,
            _ => return k as usize,
        };
        usize::from(if holds { jt } else { jf })
    }
}

fn compute(code: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match code & 0xf0 {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        0x30 => a.checked_div(operand)?,
        0x40 => a | operand,
        0x50 => a & operand,
        0x60 => a.checked_shl(operand).unwrap_or(0),
        0x70 => a.checked_shr(operand).unwrap_or(0),
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(operand)?,
        _ => a ^ operand,
    })
}

#[cfg(test)]
mod tests;
