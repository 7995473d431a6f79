//! A terminal in which keys are pressed and of which the screen is read: tmux.

use std::process::{Command, Stdio};

use crate::daemon::{command, program};
use crate::wait::wait_for;

/// Whether this machine has a program.
pub fn there(program: &str) -> bool {
    let asked = if program == "tmux" { "-V" } else { "--version" };
    Command::new(program)
        .arg(asked)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// The environment in which shells find the control tool.
pub fn path() -> String {
    let ctl = program("vswitchctl");
    format!("{}:{}", ctl.parent().unwrap().display(), std::env::var("PATH").unwrap())
}

/// A terminal of its own, which ends with this.
pub struct Terminal {
    folder: tempfile::TempDir,
}

impl Terminal {
    /// Runs a program, such as a shell, in a terminal of this size.
    pub fn start(program: &str, columns: u16, lines: u16) -> Self {
        let terminal = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let start = [
            "-f",
            "/dev/null",
            "-u",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &lines,
            program,
        ];
        terminal.tmux(&start);
        terminal
    }

    /// Asks tmux.
    pub fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.folder.path().join("tmux");
        let output = command("tmux")
            .arg("-S")
            .arg(socket)
            .args(arguments)
            .env("PATH", path())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What stands on the screen.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same with colours, as escape sequences.
    pub fn coloured_screen(&self) -> String {
        self.tmux(&["capture-pane", "-e", "-p"])
    }

    /// Types text as it is.
    pub fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses a key by tmux's name for it: `Enter`, `Tab`, `C-c`.
    pub fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Waits until the screen is as it is meant to be.
    #[track_caller]
    pub fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        wait_for(what, || {
            let screen = self.screen();
            if is_so(&screen) { Ok(()) } else { Err(screen) }
        });
    }

    /// Waits until these words are to be seen.
    #[track_caller]
    pub fn wait_for(&self, words: &str) {
        self.wait(&format!("{words:?} on the screen"), |screen| screen.contains(words));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
