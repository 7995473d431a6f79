//! The facts without which a figure says nothing.

use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::thread::available_parallelism;

use crate::command::run;
use crate::peers::vswitch;

/// Where and when a run was made.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// As /proc/cpuinfo names it.
    pub cpu: String,
    /// Processors that the rig may use.
    pub cores: usize,
    /// Release.
    pub kernel: String,
    /// UTC, ISO 8601.
    pub date: String,
    /// First line of what each program says of its version, where it is installed.
    pub versions: BTreeMap<String, String>,
}

impl Machine {
    /// # Errors
    /// If /proc can't be read.
    pub fn read() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let vswitchd = vswitch::program("vswitchd")?.display().to_string();
        let programs = [
            ("vswitchd", vswitchd.as_str()),
            ("ovs-vswitchd", "ovs-vswitchd"),
            ("iperf3", "iperf3"),
        ];
        let versions = programs.into_iter().filter_map(|(name, program)| {
            let said = run(&format!("{program} --version")).ok()?;
            Some((name.to_owned(), said.lines().next()?.trim().to_owned()))
        });
        Ok(Self {
            cpu: model.map_or("unknown", |(_, name)| name).trim().to_owned(),
            cores: available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            date: run("date -u +%Y-%m-%dT%H:%M:%SZ")?.trim().to_owned(),
            versions: versions.collect(),
        })
    }
}
