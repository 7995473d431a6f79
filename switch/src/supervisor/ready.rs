//! Whether a process is ready: asked again and again until it is.

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::process::CommandExt;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use vswitch_api::Ready;
use vswitch_linux::sockets::tcp_listeners;

use super::run::Exit;

/// Between two questions: from the first on, ever longer up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(1);
/// What a command that asks may take.
const COMMAND_TIME: Duration = Duration::from_secs(10);

type Connecting = Pin<Box<dyn Future<Output = Result<(), String>>>>;

enum Asking {
    /// Not before.
    Pause(Instant),
    Tcp(Connecting),
    /// A command, that is to end until then.
    Command(u32, Instant),
}

/// One who asks until the answer is yes.
pub(super) struct Check {
    ready: Ready,
    env: Vec<(String, String)>,
    pause: Duration,
    asking: Asking,
    /// What the last answer was.
    pub last: String,
}

impl Check {
    /// None: there is nothing to ask, since only the end tells.
    pub fn new(ready: &Ready, env: Vec<(String, String)>) -> Option<Self> {
        (!ready.done).then(|| Self {
            ready: ready.clone(),
            env,
            pause: FIRST_PAUSE,
            asking: Asking::Pause(Instant::now() + FIRST_PAUSE),
            last: "it was not asked yet".to_owned(),
        })
    }

    /// Whether a command that has ended was the one that asked, and says yes.
    pub fn ended(&mut self, pid: u32, exit: Exit) -> bool {
        match self.asking {
            Asking::Command(asked, _) if asked == pid => self.answered(match exit {
                Exit::Code(0) => Ok(()),
                other => Err(format!("the ready check {other}")),
            }),
            _ => false,
        }
    }

    fn answered(&mut self, answer: Result<(), String>) -> bool {
        match answer {
            Ok(()) => true,
            Err(cause) => {
                self.last = cause;
                self.asking = Asking::Pause(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                false
            }
        }
    }

    /// Goes on; whether it is ready. To be called again until then. Nothing is lost by giving it up half-way.
    pub async fn go_on(&mut self) -> bool {
        match &mut self.asking {
            Asking::Pause(until) => {
                sleep_until(*until).await;
                self.ask()
            }
            Asking::Tcp(connecting) => {
                let answer = connecting.await;
                self.answered(answer)
            }
            Asking::Command(pid, until) => {
                sleep_until(*until).await;
                // Its end is told by `ended`.
                let _ = killpg(Pid::from_raw(*pid as i32), Signal::SIGKILL);
                self.asking = Asking::Command(*pid, Instant::now() + COMMAND_TIME);
                false
            }
        }
    }

    fn ask(&mut self) -> bool {
        if let Some(port) = self.ready.tcp {
            let addresses = match self.ready.tcp_addr {
                Some(address) => vec![address],
                None => vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
            };
            self.asking = Asking::Tcp(Box::pin(answers(addresses, port)));
            return false;
        }
        let Some(line) = &self.ready.run else { return true };
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(line).env_clear().envs(self.env.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/");
        match command.process_group(0).spawn() {
            Ok(child) => {
                self.asking = Asking::Command(child.id(), Instant::now() + COMMAND_TIME);
                false
            }
            Err(error) => self.answered(Err(format!("the ready check can't be run: {error}"))),
        }
    }
}

/// Whether somebody takes connections there. The kernel says so of a socket that listens, also where a firewall keeps what the host sends to
/// itself; a connection finds what is led on to another place besides.
async fn answers(addresses: Vec<IpAddr>, port: u16) -> Result<(), String> {
    let somebody_listens = {
        let addresses = addresses.clone();
        async move {
            while !is_listened_at(&addresses, port) {
                sleep(FIRST_PAUSE).await;
            }
        }
    };
    tokio::select! {
        biased;
        () = somebody_listens => Ok(()),
        answer = connect(addresses, port) => answer,
    }
}

fn is_listened_at(addresses: &[IpAddr], port: u16) -> bool {
    // Where the kernel does not tell, a connection does.
    tcp_listeners().unwrap_or_default().iter().any(|listener| {
        let ip = listener.ip().to_canonical();
        // Whether `::` takes IPv4 too is not told here.
        let is_there = |address: &IpAddr| *address == ip || (ip.is_unspecified() && ip.is_ipv4() == address.is_ipv4());
        listener.port() == port && addresses.iter().any(is_there)
    })
}

async fn connect(addresses: Vec<IpAddr>, port: u16) -> Result<(), String> {
    let mut cause = String::new();
    for address in addresses {
        match timeout(CONNECT_TIME, TcpStream::connect((address, port))).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => cause = format!("TCP port {port} of {address} does not answer: {error}"),
            Err(_) => cause = format!("TCP port {port} of {address} does not answer"),
        }
    }
    Err(cause)
}

/// The next step of a check that may not be there.
pub(super) async fn go_on(check: &mut Option<Check>) -> bool {
    match check {
        Some(check) => check.go_on().await,
        None => pending().await,
    }
}
