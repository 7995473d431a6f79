//! The life of the RPM, by rpm on the same machine: its files, its scripts and its units. What it requires are names of another
//! distribution's packages, and so is what its completions lie beside: these are not tried.

use anyhow::{Context, Result, bail};

use super::check::{Machine, UNITS};
use crate::shell::headline;

/// Installed, enabled, used, upgraded by itself, erased, installed again.
pub fn life(machine: &Machine, file: &str) -> Result<()> {
    headline("Install, use, upgrade and erase the RPM");
    let package = format!("/packages/{file}");
    // Debian's rpm warns of itself otherwise.
    let rpm = |words: &[&str]| machine.say(&[&["rpm", "--force-debian"], words].concat());
    let ping = || {
        machine.say(&[
            "ip", "netns", "exec", "red", "ping", "-n", "-c", "1", "-W", "5", "10.0.0.2",
        ])
    };
    let pid = || machine.ask(&["systemctl", "show", "--value", "--property", "MainPID", "vswitchd"]);
    machine.ask(&["rpm", "--initdb"])?;
    rpm(&["--install", "--nodeps", &package])?;
    machine.ask(&["getent", "group", "vswitch"])?;
    // Whether a unit is enabled by itself is the distribution's to say.
    machine.say(&["systemctl", "enable", "--now", UNITS[0], UNITS[1]])?;
    machine.expect(&["systemctl", "is-active", "vswitchd"], "active")?;
    machine.expect(
        &["stat", "--format", "%G %a", "/run/vswitch/control.sock"],
        "vswitch 660",
    )?;
    // Nothing that was installed differs from what the package says of it.
    machine.expect(&["rpm", "--verify", "--nodeps", "vswitch"], "")?;
    machine.say(&["vswitchctl", "add-port", "red", "--addr", "10.0.0.1/24"])?;
    machine.say(&["vswitchctl", "add-port", "blue", "--addr", "10.0.0.2/24"])?;
    ping()?;

    let first = pid()?;
    machine.say(&["sh", "-c", "echo '# mine' >> /etc/vswitch/vswitchd.toml"])?;
    rpm(&["--upgrade", "--nodeps", "--replacepkgs", &package])?;
    if pid()? == first {
        bail!("the upgrade did not start the new daemon");
    }
    machine.expect(&["tail", "-n", "1", "/etc/vswitch/vswitchd.toml"], "# mine")?;
    ping()?;

    // What was made goes with the programs, what it was is kept.
    rpm(&["--erase", "vswitch"])?;
    machine.expect(&["ip", "netns", "list"], "")?;
    for path in ["/run/vswitch", "/usr/sbin/vswitchd", "/usr/share/vswitch"] {
        machine
            .ask(&["test", "!", "-e", path])
            .with_context(|| format!("{path} is left behind"))?;
    }
    machine.ask(&["test", "-e", "/etc/vswitch/vswitchd.toml.rpmsave"])?;
    rpm(&["--install", "--nodeps", &package])?;
    machine.say(&["systemctl", "start", "vswitchd"])?;
    ping()?;
    rpm(&["--erase", "vswitch"])?;
    machine.ask(&["rm", "-r", "/var/lib/vswitch", "/etc/vswitch"]).map(drop)
}
