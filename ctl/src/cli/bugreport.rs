//! What is sent to those who are to find out what is wrong.

use std::path::PathBuf;

use clap::Args;

/// Examples of `bugreport`.
pub const EXAMPLES: &str = "\
Examples:
  vswitchctl bugreport -n               # list what would be in it
  vswitchctl bugreport report.tar.gz
  tar tzf report.tar.gz

In it are versions, status, lab, switches, ports, metrics, events of two
seconds, what doctor says, facts of the kernel, configuration and log of the
daemon. Addresses and MAC addresses that are not of the lab, the name of the
machine and what looks like a secret are taken out. Only its owner can read
it, and a file that is there is never overwritten. It works without a daemon
too, as far as there is something to tell.";

/// Arguments of `bugreport`.
#[derive(Args, Debug)]
pub struct BugreportArgs {
    /// The archive (default: vswitch-bugreport-DATE-TIME.tar.gz)
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Configuration file of the daemon
    #[arg(long, value_name = "FILE", default_value = "/etc/vswitch/vswitchd.toml")]
    pub config: PathBuf,
    /// Log file of the daemon (default: what journalctl has of it)
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// List what would be in it, write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}
