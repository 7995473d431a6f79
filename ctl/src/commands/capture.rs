//! `capture`: frames of a port or of several, into a file, a pipe or as lines.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::thread;

use jiff::tz::TimeZone;
use nix::sys::signal::{SigSet, Signal};
use tokio::sync::oneshot;
use vswitch_api::capture::{Also, CaptureOptions};
use vswitch_api::view::{PortState, PortView};
use vswitch_api::{ApiError, ErrorCode, PortName};

use super::Session;
use crate::cli::capture::CaptureArgs;
use crate::failure::Failure;
use crate::output::frames;
use crate::output::tell;
use vswitch_client::pcapng::Item;

/// Where the frames go.
enum Sink {
    /// As they come from the daemon.
    Raw(Box<dyn Write>),
    /// A line each.
    Lines(TimeZone),
    /// A JSON object each.
    Json,
}

impl Session {
    pub(super) async fn capture(&self, args: CaptureArgs) -> Result<(), Failure> {
        self.out.refuse_for_stream()?;
        let (port, also) = self.captured(&args).await?;
        let words = if args.any {
            String::new()
        } else {
            args.expression.join(" ")
        };
        if args.filter.is_some() && !words.is_empty() {
            let cause = format!("there is the filter {words:?} besides");
            return Err(Failure::usage("--filter", cause, "give one of them"));
        }
        let expression = args.filter.clone().unwrap_or(words);
        let several = also != Also::None;
        let options = CaptureOptions {
            also,
            filter: if expression.trim().is_empty() {
                None
            } else {
                Some(compile(&expression)?)
            },
            direction: args.direction.into(),
            snaplen: args.snaplen,
            segment: args.segment,
            count: args.count,
            duration_ms: args
                .duration
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        };
        // After the daemon has said yes: a file that is there is not emptied for nothing.
        let mut capture = self.client.capture(&port, &options).await?;
        let mut sink = self.sink(&args)?;
        let (mut frames, mut names, mut lost) = (0, Vec::new(), Vec::new());
        let mut asked_to_end = signalled()?;
        let mut enough = false;
        loop {
            let part = tokio::select! {
                part = capture.next() => part,
                _ = &mut asked_to_end, if !enough => {
                    // What the daemon has captured still comes, and the end of the file.
                    enough = true;
                    capture.end().await?;
                    continue;
                }
            };
            let Some(part) = part else { break };
            let part = part?;
            if let Sink::Raw(file) = &mut sink {
                file.write_all(&part.bytes)
                    .and_then(|()| file.flush())
                    .map_err(|e| written(&args, e))?;
            }
            for item in part.items {
                match item {
                    Item::Frame(frame) => {
                        frames += 1;
                        if let Some(lost) = lost.get_mut(frame.interface) {
                            *lost += frame.lost_before;
                        }
                        let name = names.get(frame.interface).map_or("", String::as_str);
                        match &sink {
                            Sink::Lines(zone) => {
                                self.out.print(&frames::line(&frame, several.then_some(name), zone))?;
                            }
                            Sink::Json => self.out.print(&frames::json(&frame, name).to_string())?,
                            Sink::Raw(_) => {}
                        }
                    }
                    Item::Interface { name } => {
                        names.push(name);
                        lost.push(0);
                    }
                    Item::Statistics { interface, lost: total } => {
                        if let Some(lost) = lost.get_mut(interface) {
                            *lost = total;
                        }
                    }
                    _ => {}
                }
            }
        }
        if !self.out.json() {
            let lost: u64 = lost.iter().sum();
            tell!("{frames} frames captured, {lost} lost as the reader was too slow");
        }
        enough |= args.count.is_some_and(|count| frames >= count) || args.duration.is_some();
        if !enough {
            return Err(Failure::unreachable(
                format!("capture of port \"{port}\""),
                "vswitchd ended it",
                format!("was the port removed, or did the daemon stop? `vswitchctl port show {port}` tells"),
            ));
        }
        Ok(())
    }

    /// The port and those besides.
    async fn captured(&self, args: &CaptureArgs) -> Result<(PortName, Also), Failure> {
        if let Some(port) = &args.port {
            let others = if args.any { &args.expression[..] } else { &[] };
            let others: Result<Vec<PortName>, _> = others.iter().map(|name| name.parse()).collect();
            let others = others.map_err(|e| {
                let hint = "with --any all words are ports; a filter stands behind --filter";
                Failure::usage("capture --any", e.to_string(), hint)
            })?;
            let also = if others.is_empty() {
                Also::None
            } else {
                Also::Ports(others)
            };
            return Ok((port.clone(), also));
        }
        let views: Vec<PortView> = self.client.ports().await?;
        let there = views.into_iter().find(|view| view.state != PortState::Missing);
        match there {
            Some(view) => Ok((view.port.name, Also::All)),
            None => Err(
                ApiError::new(ErrorCode::NotFound, "capture --any", "there is no port to capture at")
                    .hint("`vswitchctl port list` lists them")
                    .into(),
            ),
        }
    }

    fn sink(&self, args: &CaptureArgs) -> Result<Sink, Failure> {
        match &args.file {
            Some(file) if file == Path::new("-") => Ok(Sink::Raw(Box::new(io::stdout()))),
            Some(file) => {
                let opened = File::create(file).map_err(|e| {
                    Failure::usage(
                        format!("file {}", file.display()),
                        e.to_string(),
                        "give one that can be written to",
                    )
                })?;
                Ok(Sink::Raw(Box::new(opened)))
            }
            None if self.out.json() => Ok(Sink::Json),
            None if args.text || io::stdout().is_terminal() => Ok(Sink::Lines(TimeZone::system())),
            None => Ok(Sink::Raw(Box::new(io::stdout()))),
        }
    }
}

/// Tells of the first signal that is to end the capture. A second one ends the program at once, also where it is held by a pipe that
/// nobody reads: a thread of its own waits for it.
fn signalled() -> Result<oneshot::Receiver<()>, Failure> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // For this thread and the one that begins here, so that they come to where they are waited for.
    signals
        .thread_block()
        .map_err(|error| Failure::system("signals", &error.into()))?;
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        // It fails for an empty set only.
        if signals.wait().is_ok() {
            let _ = tell.send(());
        }
        if let Ok(second) = signals.wait() {
            // As a shell tells of what a signal has ended.
            process::exit(128 + second as i32);
        }
    });
    Ok(told)
}

/// A pipe that nobody reads any more is no error.
fn written(args: &CaptureArgs, error: io::Error) -> Failure {
    match &args.file {
        Some(file) if file != Path::new("-") => Failure::system(format!("file {}", file.display()), &error),
        _ => Failure::Output(error),
    }
}

/// Has tcpdump compile a filter expression to a classic BPF program.
pub(super) fn compile(expression: &str) -> Result<String, Failure> {
    let object = || format!("filter {expression:?}");
    let output = Command::new("tcpdump")
        .args(["-ddd", "-y", "EN10MB", "--", expression])
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ApiError::new(
                ErrorCode::NotPermitted,
                object(),
                "tcpdump, which compiles filters, is not installed",
            )
            .hint("install it (apt install tcpdump), or capture without a filter")
            .into());
        }
        Err(error) => return Err(Failure::system("tcpdump", &error)),
    };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let cause = text.lines().last().unwrap_or("tcpdump does not take it");
        let cause = cause.trim_start_matches("tcpdump: ").to_owned();
        return Err(Failure::usage(
            object(),
            cause,
            "`man pcap-filter` describes the syntax",
        ));
    }
    let program = String::from_utf8_lossy(&output.stdout);
    Ok(program.lines().collect::<Vec<_>>().join(","))
}
