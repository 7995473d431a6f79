//! Makes the man page and the shell completions of `vswitchd` from its command line definition, into OUT_DIR.

#[path = "src/args.rs"]
mod args;
#[path = "../ctl/src/man.rs"]
mod man;

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

/// What the page has besides the help.
const OTHERS: &str = "\
Exit codes:
  0       it was told to stop, or has done what an option asks for
  1 to 6  it can't start or go on; the last line says why, and vswitchctl(1)
          what each stands for

Environment:
  NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS, LISTEN_PID, JOURNAL_STREAM  as
            systemd sets them
  NO_COLOR  no colours in the log on a terminal (https://no-color.org)

Files:
  /etc/vswitch/vswitchd.toml   configuration
  /run/vswitch/control.sock    control socket
  /var/lib/vswitch/state.json  the lab, which survives a reboot

See also:
  vswitchctl(1), ip-netns(8), systemd(1)";

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=src/args.rs");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../ctl/src/man.rs");
    let Some(out) = std::env::var_os("OUT_DIR").map(PathBuf::from) else {
        return Ok(());
    };

    let mut command = args::Args::command();
    let mut page = Vec::new();
    let man = Man::new(command.clone()).section("8").manual("vswitch manual");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    man::sections(&format!("{help}\n\n{OTHERS}")).to_writer(&mut page)?;
    std::fs::write(out.join("vswitchd.8"), page)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "vswitchd", &out)?;
    }
    Ok(())
}
