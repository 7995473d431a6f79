use proptest::prelude::*;

use super::*;

/// `tcpdump -ddd -y EN10MB 'vlan 100'`, libpcap 1.10.
const VLAN_100: &str =
    "9,40 0 0 12,21 2 0 33024,21 1 0 34984,21 0 4 37120,40 0 0 14,84 0 0 4095,21 0 1 100,6 0 0 262144,6 0 0 0";
/// `tcpdump -ddd -y EN10MB 'ip and tcp port 80'`: index loads and the length of the IP header.
const TCP_80: &str = "13,40 0 0 12,21 0 10 2048,48 0 0 23,21 0 8 6,40 0 0 20,69 6 0 8191,177 0 0 14,72 0 0 14,\
                      21 2 0 80,72 0 0 16,21 0 1 80,6 0 0 262144,6 0 0 0,";

fn frame(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    [&[2; 12][..], &ethertype.to_be_bytes(), rest].concat()
}

#[test]
fn a_tag_is_told_from_another() {
    let program: Program = VLAN_100.parse().unwrap();
    assert!(program.matches(&frame(0x8100, &[0xa0, 100, 8, 0])));
    assert!(program.matches(&frame(0x88a8, &[0, 100, 8, 0])));
    assert!(!program.matches(&frame(0x8100, &[0, 101, 8, 0])));
    assert!(!program.matches(&frame(0x0800, &[0, 100, 8, 0])));
}

#[test]
fn a_port_is_found_behind_ip_options_and_not_in_fragments() {
    let program: Program = TCP_80.parse().unwrap();
    let packet = |header: usize, fragment: u8, port: u16| {
        let mut ip = vec![0; header];
        ip[0] = 0x40 | (header / 4) as u8;
        (ip[7], ip[9]) = (fragment, 6);
        frame(0x0800, &[&ip[..], &[0xc0, 0], &port.to_be_bytes(), &[0; 16]].concat())
    };
    for header in [20, 24, 60] {
        assert!(program.matches(&packet(header, 0, 80)), "{header}");
        assert!(!program.matches(&packet(header, 0, 81)), "{header}");
        assert!(!program.matches(&packet(header, 9, 80)), "{header}");
    }
    // A frame that ends before what is looked at is not wanted.
    assert!(!program.matches(&packet(20, 0, 80)[..37]));
}

#[test]
fn what_is_no_safe_program_is_refused() {
    for (text, error) in [
        ("", "no program"),
        ("x", "no program"),
        ("2,6 0 0 1", "announced"),
        ("1,6 0 0", "no program"),
        ("1,6 0 0 1 1", "no program"),
        ("0", "0 instructions"),
        ("1,0 0 0 1", "no return"),
        ("2,5 0 0 1,6 0 0 1", "jumps"),
        ("2,5 0 0 2147483647,6 0 0 1", "behind the end"),
        // As libpcap writes `ip6 protochain 6`.
        ("2,5 0 0 4294967295,6 0 0 1", "filters that loop"),
        ("2,21 0 1 1,6 0 0 1", "jumps"),
        ("2,96 0 0 16,6 0 0 1", "out of range"),
        ("2,52 0 0 0,6 0 0 1", "out of range"),
        ("2,100 0 0 32,6 0 0 1", "out of range"),
        ("2,256 0 0 1,6 0 0 1", "unknown code"),
        ("2,15 0 0 1,6 0 0 1", "unknown code"),
    ] {
        let refused = text.parse::<Program>().unwrap_err().to_string();
        assert!(refused.contains(error), "{text}: {refused}");
    }
    let long = vec![
        Instruction {
            code: 6,
            jt: 0,
            jf: 0,
            k: 0
        };
        MAX_INSTRUCTIONS + 1
    ];
    assert_eq!(Program::new(&long), Err(ProgramError::Length(MAX_INSTRUCTIONS + 1)));
}

#[test]
fn a_division_by_a_zero_register_ends_with_no() {
    // A = 8; A /= X (0); return A
    assert_eq!("3,0 0 0 8,60 0 0 0,22 0 0 0".parse::<Program>().unwrap().run(&[]), 0);
    // X = A = 4; A = 8; A /= X
    let text = "5,0 0 0 4,7 0 0 0,0 0 0 8,60 0 0 0,22 0 0 0";
    assert_eq!(text.parse::<Program>().unwrap().run(&[]), 2);
}

fn any_instruction() -> impl Strategy<Value = Instruction> {
    let code = prop_oneof![any::<u16>(), 0u16..0x100];
    let k = prop_oneof![any::<u32>(), 0u32..40];
    (code, 0u8..6, 0u8..6, k).prop_map(|(code, jt, jf, k)| Instruction { code, jt, jf, k })
}

proptest! {
    #[test]
    fn whatever_is_taken_ends_and_does_not_panic(
        program in prop::collection::vec(any_instruction(), 0..12),
        frame in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        // Only what can be run is left, so that long programs come up too.
        let mut program: Vec<_> = program.into_iter().filter(|i| check(0, *i, 7).is_ok()).collect();
        program.extend([Instruction { code: 0x16, jt: 0, jf: 0, k: 0 }; 8]);
        if let Ok(program) = Program::new(&program) {
            program.run(&frame);
        }
    }

    #[test]
    fn any_text_is_taken_or_refused(text in "[0-9 ,\n]{0,60}|.{0,30}") {
        let _ = text.parse::<Program>();
    }
}
