//! `vswitchctl events`, read as it goes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::ctl::tool;
use crate::lab::Lab;
use crate::wait::{DEADLINE, wait_for};

/// The tool as it prints events, until this is dropped.
pub struct Events {
    tool: Child,
    lines: Receiver<String>,
}

impl Events {
    /// From when it listens on; the first events are those of a switch that was only to show that it does.
    pub fn follow(lab: &Lab, options: &[&str]) -> Self {
        let mut command = tool();
        command.arg("events").args(options).stdout(Stdio::piped());
        let mut tool = command.spawn().unwrap();
        let mut read = BufReader::new(tool.stdout.take().unwrap()).lines();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            while let Some(Ok(line)) = read.next() {
                let _ = sender.send(line);
            }
        });
        let events = Self { tool, lines };
        wait_for("the first event", || {
            lab.ok("switch add probe");
            lab.ok("switch del probe");
            events.lines.recv_timeout(Duration::from_millis(200)).is_ok()
        });
        events
    }

    /// The next line; `what` is waited for.
    #[track_caller]
    pub fn next(&self, what: &str) -> String {
        let line = self.lines.recv_timeout(DEADLINE);
        line.unwrap_or_else(|_| panic!("never came: {what}"))
    }
}

impl Events {
    /// A line that has come already.
    pub fn try_next(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.tool.kill();
        let _ = self.tool.wait();
    }
}
