//! The two namespaces that every switch has to join, and a third one that the switch itself lives in.

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::big_tcp;
use crate::command::{run, run_in, wait_until};

/// One of the two machines that talk through the switch.
pub struct End {
    /// Its namespace; also the port's name where the switch names ports.
    pub ns: &'static str,
    /// Its address on the switch.
    pub ip: &'static str,
}

/// Sends in the measures that have a direction.
pub const A: End = End {
    ns: "cmp-a",
    ip: "10.99.0.1",
};
/// Receives.
pub const B: End = End {
    ns: "cmp-b",
    ip: "10.99.0.2",
};
/// The namespace of the switch: nothing of the host's firewall or bridge settings reaches into it.
pub const SWITCH: &str = "cmp-sw";
/// The interface inside both ends.
pub const INTERFACE: &str = "eth0";
/// Both ends are in one subnet of this length.
pub const PREFIX: u8 = 24;
/// The congestion control of every TCP stream: BBR would pace and so hide the speed of the path.
pub const CONGESTION_CONTROL: &str = "cubic";

const DIR: &str = "/run/compare";

/// The namespaces while one peer is measured; dropping it deletes them.
pub struct Lab {
    dir: PathBuf,
    /// Lines for the `[datapath]` of this switch's configuration.
    pub datapath: Vec<String>,
    /// Bytes of the longest TCP frames of the bridge that has such above 64 KiB.
    pub big_bytes: u32,
}

impl Lab {
    /// Makes the namespaces and an empty directory for the peer's sockets, state and logs.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn new() -> Result<Self> {
        let lab = Self {
            dir: DIR.into(),
            datapath: Vec::new(),
            big_bytes: big_tcp::BYTES,
        };
        fs::create_dir_all(&lab.dir).with_context(|| DIR.to_owned())?;
        for ns in [A.ns, B.ns, SWITCH] {
            run(&format!("ip netns add {ns}"))?;
            run(&format!("ip -n {ns} link set lo up"))?;
        }
        for ns in [A.ns, B.ns] {
            // Refused where the host does not list it as allowed for all; so every socket of a measure sets it too.
            let _ = in_namespace(ns, || {
                Ok(fs::write(
                    "/proc/sys/net/ipv4/tcp_congestion_control",
                    CONGESTION_CONTROL,
                )?)
            });
        }
        Ok(lab)
    }

    /// Where the peer may put files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits until the ends see each other.
    ///
    /// # Errors
    /// If they don't within ten seconds.
    pub fn wait_connected(&self) -> Result<()> {
        wait_until("the ends reach each other", Duration::from_secs(10), || {
            run_in(A.ns, &format!("ping -c 1 -W 1 {}", B.ip)).map(|_| true)
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for ns in [A.ns, B.ns, SWITCH] {
            let _ = run(&format!("ip netns del {ns}"));
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Gives the end's interface its address and brings it up.
///
/// # Errors
/// If `ip` fails, for example because the peer has not made the interface.
pub fn configure(end: &End) -> Result<()> {
    let (ns, ip) = (end.ns, end.ip);
    run(&format!("ip -n {ns} addr add {ip}/{PREFIX} dev {INTERFACE}"))?;
    run(&format!("ip -n {ns} link set {INTERFACE} up"))?;
    Ok(())
}

/// A veth pair: `near` in the switch's namespace, up, and the interface of the namespace `ns` at the other side.
///
/// # Errors
/// If `ip` fails.
pub fn add_veth(near: &str, ns: &str) -> Result<()> {
    run(&format!(
        "ip -n {SWITCH} link add {near} type veth peer name {INTERFACE} netns {ns}"
    ))?;
    run(&format!("ip -n {SWITCH} link set {near} up"))?;
    Ok(())
}

/// What the kernel says of an end's interface: MAC address, counters.
///
/// # Errors
/// If `ip` fails or its output has no such field.
pub fn link(end: &End) -> Result<Link> {
    let json: Value = serde_json::from_str(&run(&format!("ip -n {} -s -j link show {INTERFACE}", end.ns))?)?;
    let text = |pointer: &str| {
        json.pointer(pointer)
            .with_context(|| format!("`ip -j link` says no {pointer}"))
    };
    let mac = text("/0/address")?
        .as_str()
        .and_then(parse_mac)
        .context("the interface has no MAC address")?;
    let received = text("/0/stats64/rx/packets")?
        .as_u64()
        .context("the interface has no counters")?;
    Ok(Link { mac, received })
}

/// See [`link`].
pub struct Link {
    /// The interface's address.
    pub mac: [u8; 6],
    /// Frames received so far, whatever became of them afterwards.
    pub received: u64,
}

/// Reads `02:00:00:00:00:01`.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut octets = text.split(':');
    for octet in &mut mac {
        *octet = u8::from_str_radix(octets.next()?, 16).ok()?;
    }
    octets.next().is_none().then_some(mac)
}

/// Runs `work` on a thread that is in the namespace `ns`. Sockets that it opens stay there.
///
/// # Errors
/// If there is no such namespace, and what `work` says.
pub fn in_namespace<T: Send>(ns: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    in_namespace_at(&namespace_path(ns), work)
}

/// File of the namespace `ns`.
pub fn namespace_path(ns: &str) -> PathBuf {
    Path::new("/run/netns").join(ns)
}

/// The same in the namespace that is bound to a file.
///
/// # Errors
/// As [`in_namespace`].
pub fn in_namespace_at<T: Send>(path: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("{} can't be entered", path.display()))?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::parse_mac;

    #[test]
    fn mac_addresses_have_six_octets() {
        assert_eq!(parse_mac("02:00:5e:00:00:ff"), Some([2, 0, 0x5e, 0, 0, 255]));
        assert_eq!(parse_mac("02:00:5e:00:00"), None);
        assert_eq!(parse_mac("02:00:5e:00:00:ff:01"), None);
        assert_eq!(parse_mac("02:00:5e:00:00:gg"), None);
    }
}
