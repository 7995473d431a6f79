//! The command line of `vswitchd`. The build script includes this file to make the man page and the
//! completions from it, so it uses nothing but clap.

use std::path::PathBuf;

use clap::{Parser, ValueHint};

/// Userspace layer-2 switch for Linux network namespaces
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "vswitchd",
    version,
    long_about = "vswitchd connects network namespaces, TAP devices, network interfaces and the host itself at layer 2. \
        It is controlled with vswitchctl, or by HTTP on its control socket.\n\n\
        Interfaces, addresses and namespaces stay when the daemon stops; the next start takes them over. \
        `vswitchctl reset` removes them, and `vswitchd --reset` does where no daemon runs.",
    after_help = "Signals:\n  \
        SIGTERM, SIGINT  stop; interfaces and namespaces stay\n  \
        SIGHUP           read the configuration again and apply the log level\n\n\
        Example:\n  \
        vswitchd --log-level debug &\n  \
        vswitchctl add-port red --addr 192.168.15.1/24"
)]
pub struct Args {
    /// Configuration file [default: /etc/vswitch/vswitchd.toml, if it is there]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,

    /// Control socket [default: control.sock in the run directory]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,

    /// Directory for the lock, the control socket and the daemon's own namespace [default: /run/vswitch]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub run_dir: Option<PathBuf>,

    /// Directory for what has to survive a reboot [default: /var/lib/vswitch]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state_dir: Option<PathBuf>,

    /// error, warn, info, debug or trace, or a filter such as info,vswitch::control=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// Begin with an empty lab if the state file can't be used, and keep the file under another name
    ///
    /// Without it the daemon does not start then, and what the kernel carries goes on. A state file that can be used is used.
    /// The ports of the lab before carry nothing any more then; its namespaces stay until `vswitchctl reset`.
    #[arg(long)]
    pub recover: bool,

    /// Remove everything that a daemon made with these directories, print what was removed, and exit
    ///
    /// It is refused while a daemon runs; `vswitchctl reset` is for that.
    #[arg(long, conflicts_with = "check_config")]
    pub reset: bool,

    /// With --reset: say what would be removed, do nothing
    #[arg(short = 'n', long, requires = "reset")]
    pub dry_run: bool,

    /// With --reset: the lab stays in the state file, and the next start brings it back
    ///
    /// Nothing is written to the state file, so it also works where that can't be written.
    #[arg(long, requires = "reset")]
    pub keep_lab: bool,

    /// With --reset: print what was removed, or the error, as one JSON object
    #[arg(long, requires = "reset")]
    pub json: bool,

    /// Check the configuration, print OK or what is wrong, and exit
    #[arg(long)]
    pub check_config: bool,

    /// The same, and whether the state can be read: would this program start in the place of one that runs?
    #[arg(long, conflicts_with_all = ["check_config", "reset"])]
    pub check_start: bool,
}
