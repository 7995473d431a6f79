//! The daemon as a service of systemd, where no package has made it one.

use std::path::PathBuf;

use clap::Args;

/// Examples of `install-service`.
pub const EXAMPLES: &str = "\
Examples:
  cargo install --root /usr/local --path switch
  cargo install --root /usr/local --path ctl
  vswitchctl install-service -n         # say what would be done
  vswitchctl install-service
  vswitchctl install-service --remove

It writes vswitchd.service and vswitchd.socket, with the path of vswitchd as
it was installed, has systemd read them, and starts the daemon now and at each
boot. Done again, as after an upgrade, it starts the new one. Units that
something else has made are left alone. --remove leaves ports and lab as they
are: `vswitchctl reset` before that removes them.";

/// Arguments of `install-service`.
#[derive(Args, Debug)]
pub struct InstallServiceArgs {
    /// Program of the daemon (default: vswitchd beside vswitchctl)
    #[arg(long, value_name = "FILE", conflicts_with = "remove")]
    pub daemon: Option<PathBuf>,
    /// Folder of the units
    #[arg(long, value_name = "FOLDER", default_value = "/etc/systemd/system")]
    pub units: PathBuf,
    /// Stop the daemon and take the units away again
    #[arg(long)]
    pub remove: bool,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}
