//! The Ansible role, by Ansible itself: `cargo xtask api-check` installs it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vswitch_testing::Lab;
use vswitch_testing::http::request;
use vswitch_testing::rich::wanted;
use vswitch_testing::snapshot::Snapshot;

/// A switch and two ports, and one port that is not to be there.
const PLAY: &str = r#"
- hosts: localhost
  gather_facts: false
  roles:
    - role: ROLE
      vars:
        vswitch_switches:
          - {name: lab, settings: {ageing_secs: 60}}
        vswitch_ports:
          - {name: red, settings: {switch: lab, addresses: [10.0.0.1/24], mtu: MTU}}
          - {name: blue, settings: {switch: lab, vlan: {access: 10}, acl: null}}
          - {name: old, state: absent}
"#;
/// All of a lab.
const WHOLE: &str = r#"
- hosts: localhost
  gather_facts: false
  roles:
    - role: ROLE
      vars:
        vswitch_lab:
          ports:
            - {name: green, addresses: [10.0.0.3/24]}
"#;

struct Ansible {
    tools: PathBuf,
    folder: PathBuf,
}

/// What a play says: all of it, and the numbers of its last line.
struct Played {
    told: String,
    recap: BTreeMap<String, u32>,
}

impl Ansible {
    #[track_caller]
    fn play(&self, play: &str, options: &[&str]) -> Played {
        let role = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/integrations/ansible");
        let file = self.folder.join("play.yml");
        fs::write(&file, play.replace("ROLE", role.to_str().unwrap())).unwrap();
        let python = format!("ansible_python_interpreter={}", self.tools.join("python").display());
        let mut command = Command::new(self.tools.join("ansible-playbook"));
        command
            .args(["--inventory", "localhost,", "--connection", "local", "-e", &python])
            .args(options)
            .arg(&file);
        for (name, value) in [
            ("ANSIBLE_HOME", self.folder.to_str().unwrap()),
            ("HOME", self.folder.to_str().unwrap()),
            ("ANSIBLE_NOCOLOR", "1"),
            ("LC_ALL", "C.UTF-8"),
        ] {
            command.env(name, value);
        }
        let output = command.output().unwrap();
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{}\n{}", told[0], told[1]);
        let last = told[0].lines().rfind(|line| line.contains("changed="));
        let words = last.unwrap_or_default().split_whitespace();
        let recap = words.filter_map(|word| {
            let (name, number) = word.split_once('=')?;
            Some((name.to_owned(), number.parse().ok()?))
        });
        let recap = recap.collect();
        let told = told.concat();
        Played { told, recap }
    }
}

impl Played {
    #[track_caller]
    fn changed(&self, tasks: u32) -> &Self {
        assert_eq!(
            (self.recap["changed"], self.recap["failed"]),
            (tasks, 0),
            "{}",
            self.told
        );
        self
    }

    #[track_caller]
    fn tells(&self, words: &[&str]) {
        for word in words {
            assert!(self.told.contains(word), "{word:?} is not in\n{}", self.told);
        }
    }
}

#[test]
#[ignore = "its tools come from PyPI: cargo xtask api-check"]
fn the_role_is_used_by_others_tools() {
    let lab = Lab::new();
    let ansible = Ansible {
        tools: PathBuf::from(env::var_os("API_TOOLS").expect("the folder of the tools")),
        folder: lab.scratch().to_owned(),
    };
    lab.ok("add-port old");
    let (there, lab_before) = (Snapshot::of(&lab), wanted());
    let play = PLAY.replace("MTU", "1400");

    // Three things differ: the switch, the ports that come, and the one that goes; each loop is one task.
    let tried = ansible.play(&play, &["--check", "--diff"]);
    tried.changed(2).tells(&["+++ after", "lab"]);
    there.assert_same(&Snapshot::of(&lab));
    assert_eq!(wanted(), lab_before, "a check changed something");

    ansible
        .play(&play, &["--diff"])
        .changed(2)
        .tells(&["+++ after", "10.0.0.1/24"]);
    let red: Value = request("GET", "/v1/ports/red", "").json();
    assert_eq!(
        (&red["switch"], &red["mtu"], &red["state"]),
        (&"lab".into(), &1400.into(), &"up".into())
    );
    assert_eq!(request("GET", "/v1/ports/old", "").status, 404);
    let after = wanted();
    ansible.play(&play, &["--diff"]).changed(0);
    assert_eq!(wanted(), after);

    // One setting differs, and the difference says which.
    let play = PLAY.replace("MTU", "1300");
    ansible
        .play(&play, &["--check", "--diff"])
        .changed(1)
        .tells(&["1400", "1300"]);
    assert_eq!(wanted(), after);
    ansible.play(&play, &[]).changed(1);
    ansible.play(&play, &[]).changed(0);
    assert_eq!(request("GET", "/v1/ports/red", "").json()["mtu"], 1300);

    ansible
        .play(WHOLE, &["--check", "--diff"])
        .changed(1)
        .tells(&["green", "red"]);
    assert_eq!(request("GET", "/v1/ports/green", "").status, 404);
    ansible.play(WHOLE, &[]).changed(1);
    ansible.play(WHOLE, &[]).changed(0);
    assert_eq!(request("GET", "/v1/ports/red", "").status, 404);
}
