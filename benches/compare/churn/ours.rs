//! This switch: one `apply`, one `reset`, and what it is like to work beside so many ports.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::broadcast::{Broadcasts, broadcasts};
use super::{Figures, NAME, SETTLE, timed, wait_gone};
use crate::command::{run, wait_until};
use crate::lab::{Lab, namespace_path};
use crate::peers::Running;
use crate::peers::vswitch::{self, FastPath};
use crate::report::median;
use crate::scale::{address, name, resident_mib};

/// Tries of what takes little time; the median counts.
const TRIES: u32 = 15;
/// A killed daemon's successor has all ports again within this time.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn round(lab: &Lab, count: u32, figures: &mut Figures) -> Result<()> {
    let (mut running, ctl) = vswitch::start(lab, FastPath::Big)?;
    let file = lab.dir().join("lab.toml");
    let ports = (0..count).map(|n| {
        format!(
            "[[ports]]\nname = \"{}\"\naddresses = [\"{}/16\"]\n",
            name(n),
            address(n)
        )
    });
    fs::write(&file, ports.collect::<String>())?;
    let up = timed(|| run(&format!("{ctl} apply --yes {}", file.display())).map(drop))?;
    figures.insert("vswitch_up_s", up);
    sleep(SETTLE);
    let Broadcasts { last_ms, lost } = broadcasts(count)?;
    figures.insert("vswitch_broadcast_ms", last_ms);
    figures.insert("vswitch_broadcasts_lost", lost);
    figures.insert("vswitch_resident_mib", resident_mib(&running)?);
    figures.insert("vswitch_show_ms", tries(|_| run(&format!("{ctl} show")).map(drop))?);
    // The next number is nobody's.
    let one = |n: u32| format!("{NAME}{}", count + n);
    let add = tries(|n| run(&format!("{ctl} add-port {} --addr {}/16", one(n), address(count + n))).map(drop))?;
    figures.insert("vswitch_add_port_ms", add);
    let del = tries(|n| run(&format!("{ctl} del-port {}", one(n))).map(drop))?;
    figures.insert("vswitch_del_port_ms", del);

    killed(lab, count, &mut running, &ctl, figures)?;

    let own = lab.dir().join("run/netns");
    let gone = timed(|| {
        let down = timed(|| run(&format!("{ctl} reset --yes")).map(drop))?;
        figures.insert("vswitch_down_s", down);
        wait_gone(&own)
    })?;
    figures.insert("vswitch_gone_s", gone);
    running.check_alive()
}

/// Kills the daemon while two namespaces talk, and starts another.
fn killed(lab: &Lab, count: u32, running: &mut Running, ctl: &str, figures: &mut Figures) -> Result<()> {
    const PINGS: u32 = 400;
    // They know each other.
    run(&format!(
        "nsenter --net={} ping -c 2 -W 5 {}",
        namespace_path(&name(0)).display(),
        address(1)
    ))?;
    let talk = Command::new("nsenter")
        .arg(format!("--net={}", namespace_path(&name(0)).display()))
        .args([
            "ping",
            "-q",
            "-i",
            "0.01",
            "-W",
            "1",
            "-c",
            &PINGS.to_string(),
            &address(1),
        ])
        .stdout(Stdio::piped())
        .spawn()?;
    let start = Instant::now();
    vswitch::replace(lab, running)?;
    let status = || run(&format!("{ctl} --json status"));
    wait_until("vswitchd answers", PATIENCE, || status().map(|_| true))?;
    figures.insert("vswitch_restart_answers_s", start.elapsed().as_secs_f64());
    wait_until("all ports are back", PATIENCE, || {
        let status: serde_json::Value = serde_json::from_str(&status()?)?;
        Ok(status.get("progress").is_none_or(serde_json::Value::is_null))
    })?;
    figures.insert("vswitch_restart_all_back_s", start.elapsed().as_secs_f64());
    let ports: serde_json::Value = serde_json::from_str(&run(&format!("{ctl} --json show"))?)?;
    let up = ports.to_string().matches("\"state\":\"up\"").count();
    ensure!(up >= count as usize, "{up} of {count} ports came back");
    let said = String::from_utf8(talk.wait_with_output()?.stdout)?;
    let received: f64 = said
        .split(" packets transmitted, ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .with_context(|| format!("ping said {said}"))?;
    figures.insert("vswitch_restart_lost", f64::from(PINGS) - received);
    Ok(())
}

/// The median, in milliseconds.
fn tries(mut work: impl FnMut(u32) -> Result<()>) -> Result<f64> {
    let times = (0..TRIES).map(|n| timed(|| work(n)).map(|time| time * 1e3));
    let mut times = times.collect::<Result<Vec<_>>>()?;
    median(&mut times).context("nothing was tried")
}
