//! The daemon: reads its configuration, starts the parts in order, and stops them in the reverse one.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinError;
use vswitch::args::Args;
use vswitch::canonical;
use vswitch::config::Config;
use vswitch::confine::{self, Rights};
use vswitch::control::{Control, ControlConfig};
use vswitch::handover::{self, Restart};
use vswitch::logging::{self, LogHandle, Repeated, Stderr};
use vswitch::preflight;
use vswitch::server::{self, ControlSocket, MetricsListener, RunLock, Served};
use vswitch::supervisor;
use vswitch_api::difference::would;
use vswitch_api::error::{ApiError, ErrorCode};
use vswitch_linux::memory;

/// Threads for requests, netlink and timers. Frames have their own.
const CONTROL_THREADS: usize = 4;
/// How often it is seen to that the lock is where a second daemon looks for it.
const LOCK_TICK: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // Before anything else: it needs to be alone in its process.
    if let Some((folder, id)) = supervisor::asked_for(std::env::args_os()) {
        return supervisor::run(&folder, &id);
    }
    std::panic::set_hook(Box::new(end));
    memory::keep_little();
    let args = Args::parse();
    // What it makes is to be read by commands and servers with fewer rights, and written by nobody else, whoever starts it.
    umask(Mode::from_bits_truncate(0o022));
    let started = start(&args);
    logging::flush();
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = match args.json {
                true => print_json(&error),
                false => writeln!(Stderr::last_words(), "vswitchd: {error}"),
            };
            ExitCode::from(error.code.exit_code())
        }
    }
}

/// A panic, or memory that is not to be had, is the end, told in one line. The kernel goes on forwarding, and whoever watches over the
/// daemon starts it again: better than one that lives on without a thread for which all others wait. Nothing here allocates.
fn end(panic: &std::panic::PanicHookInfo<'_>) {
    let _ = writeln!(Stderr::last_words(), "vswitchd: {panic}");
    std::process::abort();
}

fn start(args: &Args) -> Result<(), ApiError> {
    let config = Config::load(args)?;
    preflight::check(&config).map_err(|(key, cause)| Config::blame(args, key, &cause))?;
    if args.check_config {
        let _ = writeln!(std::io::stdout(), "OK");
        return Ok(());
    }
    if args.check_start {
        threads()?.block_on(Control::check_start(&config.daemon.state_dir, &config.daemon.run_dir))?;
        let _ = writeln!(std::io::stdout(), "OK");
        return Ok(());
    }
    let log = logging::init(&config.log)?;
    let mut left = handover::take();
    check_rights()?;
    // Before there are other threads: each has rights of its own, and gets those of the one that starts it.
    let rights = confine::process(&config.security);
    logging::write_lines();
    let mut lock = RunLock::take(&config.daemon.run_dir).map_err(|error| match error.code {
        ErrorCode::Conflict if args.reset => error.hint("`vswitchctl reset` has that one do it; or stop it first"),
        _ => error,
    })?;
    if args.reset {
        return threads()?.block_on(reset(args, &config, rights));
    }
    let restart = Arc::new(Restart::new(config.daemon.clone()));
    loop {
        // It ends before another program takes its place, with all threads of its.
        let end = threads()?.block_on(run(
            args,
            config.clone(),
            rights.clone(),
            &log,
            &mut lock,
            (left, &restart),
        ))?;
        left = match end {
            End::Stop => return Ok(()),
            End::Restart(queues) => queues,
        };
        logging::flush();
        let error = restart.exec(&left);
        tracing::error!(
            "{} can't be run, this program goes on: {error}",
            restart.program().display()
        );
    }
}

/// How a run of the daemon ends.
enum End {
    Stop,
    /// Another program is to go on, with what this one has left: queues, and its control socket.
    Restart(Vec<OwnedFd>),
}

fn threads() -> Result<Runtime, ApiError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| ApiError::new(ErrorCode::Internal, "control threads", error.to_string()))
}

/// Removes what a daemon made that does not run any more. The lock is ours.
async fn reset(args: &Args, config: &Config, rights: Rights) -> Result<(), ApiError> {
    let changes = match args.dry_run {
        true => Control::would_reset_offline(&control_config(args, config, rights)).await?,
        false => Control::reset_offline(control_config(args, config, rights)).await?,
    };
    if !args.dry_run {
        ControlSocket::remove_left(&config.daemon);
    }
    let printed = match args.json {
        true => print_json(&changes),
        false => {
            for line in &changes.warnings {
                let _ = writeln!(Stderr::last_words(), "warning: {line}");
            }
            let mut stdout = std::io::stdout().lock();
            changes.done.iter().try_for_each(|line| match args.dry_run {
                true => writeln!(stdout, "{}", would(line)),
                false => writeln!(stdout, "{line}"),
            })
        }
    };
    printed.map_err(|error| ApiError::new(ErrorCode::Internal, "standard output", error.to_string()))
}

fn print_json(value: &impl serde::Serialize) -> std::io::Result<()> {
    let text = serde_json::to_string(value)?;
    writeln!(std::io::stdout(), "{text}")
}

fn control_config(args: &Args, config: &Config, rights: Rights) -> ControlConfig {
    ControlConfig {
        // By one name, however they were written: what is made in them is told by it.
        run_dir: canonical(&config.daemon.run_dir),
        state_dir: canonical(&config.daemon.state_dir),
        netns_dir: config.daemon.netns_dir.clone(),
        workers: config.datapath.workers(),
        cpus: config.datapath.cpus.clone(),
        spin_us: config.datapath.spin_us,
        engine: config.datapath.engine,
        fastpath: config.datapath.fastpath,
        big_tcp: config.datapath.big_tcp,
        fdb_entries: config.datapath.fdb_entries,
        run_commands: true,
        engines: config.containers.engines(),
        security: config.security.clone(),
        rights,
        recover: args.recover,
        keep_lab: args.keep_lab,
    }
}

async fn run(
    args: &Args,
    config: Config,
    rights: Rights,
    log: &LogHandle,
    lock: &mut RunLock,
    (mut left, restart): (Vec<OwnedFd>, &Arc<Restart>),
) -> Result<End, ApiError> {
    let signals = |kind| signal(kind).map_err(|error| ApiError::new(ErrorCode::Internal, "signals", error.to_string()));
    // Before anything is made, so that a signal during the start is not lost.
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut hangup = signals(SignalKind::hangup())?;
    // Whoever started the daemon may have blocked them, which is inherited: it could not be stopped then.
    let listened: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    listened
        .thread_unblock()
        .map_err(|error| ApiError::new(ErrorCode::Internal, "signals", error.to_string()))?;

    // Before anything is touched that the kernel carries, since it may be refused. Who connects waits.
    let socket = ControlSocket::open(&config.daemon, &mut left)?;
    let metrics = MetricsListener::bind(&config.metrics);
    let (control, mut coming_back) = Control::begin(control_config(args, &config, rights), left).await?;
    tracing::info!(
        "vswitchd {} listens on {}",
        env!("CARGO_PKG_VERSION"),
        config.daemon.socket().display()
    );
    notify(&[NotifyState::Status("bringing the lab back")]);

    let watchdog = tokio::spawn(feed_watchdog(control.clone()));
    let left_out = tokio::spawn({
        let log = log.clone();
        async move { log.tell_left_out().await }
    });
    let mut all_back = false;
    let mut result = Ok(());
    let mut failure = Repeated::default();
    let mut lock_tick = tokio::time::interval(LOCK_TICK);
    let mut restarts = false;
    let stop = async {
        loop {
            tokio::select! {
                _ = lock_tick.tick() => keep(lock, &mut failure),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = restart.wanted() => {
                    restarts = true;
                    break;
                }
                _ = hangup.recv() => reload(args, &config, log),
                back = &mut coming_back, if !all_back => {
                    all_back = true;
                    let failed = |error: JoinError| ApiError::new(ErrorCode::Internal, "start", error.to_string());
                    result = back.map_err(failed);
                    if result.is_err() {
                        break;
                    }
                    // Whoever was to start after the daemon finds its namespaces and ports.
                    notify(&[NotifyState::Status(""), NotifyState::Ready]);
                }
            }
        }
        match restarts {
            true => {
                tracing::info!("restarting; ports, stations and counters stay");
                reloading();
            }
            false => {
                tracing::info!("stopping; interfaces, addresses and namespaces stay");
                notify(&[NotifyState::Stopping]);
                restart.stop();
            }
        }
        control.stop_edits();
        restarts
    };
    let served = Served {
        labels: config.metrics.labels.clone().into(),
        metrics,
        log: log.clone(),
        restart: restart.clone(),
    };
    let socket = server::serve(socket, control.clone(), served, stop).await;
    if !all_back {
        // It begins what `Control::shutdown` ends.
        let _ = coming_back.await;
    }
    let queues = control.shutdown().await;
    for task in [watchdog, left_out] {
        task.abort();
        // See `Control::shutdown`.
        let _ = task.await;
    }
    result?;
    if restarts {
        return Ok(End::Restart(queues.into_iter().chain(socket).collect()));
    }
    handover::leave(&queues);
    Ok(End::Stop)
}

/// Takes the lock again if somebody removed its file.
fn keep(lock: &mut RunLock, failure: &mut Repeated) {
    match lock.put_back() {
        None => {}
        Some(Ok(())) => tracing::warn!("the lock of the run directory was gone and is back"),
        Some(Err(error)) => failure.error(format!(
            "the lock of the run directory is gone and can't be taken again: {error}"
        )),
    }
}

/// Without this right nothing works at all, and the error of the first step that needs it would not say so.
fn check_rights() -> Result<(), ApiError> {
    /// capability.h
    const CAP_NET_ADMIN: u64 = 12;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    match effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) {
        Some(set) if set & (1 << CAP_NET_ADMIN) == 0 => Err(ApiError::new(
            ErrorCode::NotPermitted,
            "vswitchd",
            "the right CAP_NET_ADMIN is missing",
        )
        .hint(
            "run it as root, or try it in a user namespace, with all that it writes in memory: unshare -Urnm sh -c 'mount -t tmpfs tmpfs \
             /run; vswitchd --state-dir /run/state'",
        )),
        _ => Ok(()),
    }
}

/// Tells systemd; does nothing when it did not start us.
fn notify(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("systemd could not be told about the state: {error}");
    }
}

/// Sends signs of life as long as edits get on and the workers answer.
async fn feed_watchdog(control: Arc<Control>) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    // sd_watchdog_enabled(3): every half of the limit.
    let interval = limit / 2;
    loop {
        match tokio::time::timeout(interval, control.ping()).await {
            Ok(Ok(())) => notify(&[NotifyState::Watchdog]),
            Ok(Err(error)) => tracing::error!("no sign of life for the watchdog: {error}"),
            Err(_) => tracing::error!("no sign of life for the watchdog: no answer in {interval:?}"),
        }
        tokio::time::sleep(interval).await;
    }
}

/// Tells systemd that what runs becomes another, until it is ready again.
fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
}

/// Applies what can change while frames flow: the log level. A bad file changes nothing.
fn reload(args: &Args, running: &Config, log: &LogHandle) {
    reloading();
    match Config::load(args) {
        Err(error) => tracing::error!("the configuration was not reloaded: {error}"),
        Ok(new) => {
            if let Err(error) = log.set_level(&new.log.level) {
                tracing::error!("the log level was not changed: {error}");
            }
            tracing::info!("configuration reloaded, log level {}", new.log.level);
            for key in new.needs_restart(running) {
                tracing::warn!("{key} has changed; that takes effect at the next restart");
            }
        }
    }
    notify(&[NotifyState::Ready]);
}
