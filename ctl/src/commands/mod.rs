//! What the commands do: one request or a few, and what is printed.

mod acl;
mod bridge;
mod bugreport;
mod capture;
mod daemon;
pub mod doctor;
mod exec;
mod familiar;
mod fdb;
mod lab;
mod links;
mod mirror;
mod namespaces;
mod ovs;
mod patch;
mod ports;
mod processes;
mod publish;
mod reach;
mod reset;
mod sender;
mod service;
mod suggest;
mod switches;
mod text;
#[cfg(feature = "top")]
mod top;
mod trace;
mod traffic;
mod vlans;

use std::path::Path;

use serde::Serialize;
use vswitch_api::ErrorCode;
use vswitch_api::patch::MergePatch;
use vswitch_api::request::{ChangeOptions, SwitchFilter};
use vswitch_api::view::PortView;
use vswitch_client::{Client, Method, NO_BODY, with_options, with_query};

use crate::cli::lab::{LabCommand, ManArgs};
use crate::cli::namespace::NsCommand;
use crate::cli::{Addition, Cli, Command, OnlySwitch, Removal, Trial};
use crate::failure::Failure;
use crate::generate;
use crate::output::Out;
use crate::progress;

/// So often a change is tried that others come between.
const ATTEMPTS: usize = 20;

/// Runs the command to its end.
pub fn run(cli: Cli) -> Result<(), Failure> {
    // One thread: `ns exec` moves this very thread into the namespace.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::system("event loop", &e))?;
    let mut client = Client::new(cli.global.socket.clone()).patience(cli.global.timeout);
    if !cli.global.json && progress::is_seen() {
        let bar = progress::Bar::default();
        client = client.on_progress(move |progress| bar.show(progress));
    }
    let session = Session {
        out: Out::new(&cli.global),
        client,
    };
    runtime.block_on(async {
        match session.run(cli.command).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(session.with_suggestion(failure).await),
        }
    })
}

/// Prints the page of the tool or of a command, or writes all of them. A directory is made only where a path is named: a
/// mistaken word is no directory.
fn man(out: &Out, args: &ManArgs) -> Result<(), Failure> {
    if let Some(page) = generate::page(&args.what).map_err(Failure::Output)? {
        return out.print(&String::from_utf8_lossy(&page));
    }
    let [dir] = &args.what[..] else {
        let cause = "there is no such command";
        return Err(Failure::usage(
            args.what.join(" "),
            cause,
            "`vswitchctl --help` lists them",
        ));
    };
    let path = Path::new(dir);
    if !dir.contains('/') && !path.is_dir() {
        return Err(Failure::usage(
            format!("man page {dir:?}"),
            "there is neither a command nor a directory of this name",
            format!("`vswitchctl --help` lists the commands; for a new directory write ./{dir}"),
        ));
    }
    generate::all_pages(path).map_err(|e| {
        Failure::usage(
            format!("directory {dir}"),
            e.to_string(),
            "give one that can be written to",
        )
    })
}

/// The daemon on one side, the user on the other.
struct Session {
    client: Client,
    out: Out,
}

impl Session {
    async fn run(&self, command: Command) -> Result<(), Failure> {
        if enters_namespaces(&command) {
            exec::find_namespaces(&self.client).await;
        }
        match command {
            Command::AddPort(args) => self.add_port(*args).await,
            Command::DelPort(args) => self.del_ports(args).await,
            Command::Show(args) => self.overview(args).await,
            Command::Port(command) => self.port(command).await,
            Command::Acl(command) => self.acl(command).await,
            Command::Fdb(args) => self.fdb(args).await,
            Command::Switch(command) => self.switch(command).await,
            Command::Set(command) => self.set(command).await,
            Command::Impair(args) => self.impair(*args).await,
            Command::Police(args) => self.police(args).await,
            Command::Storm(args) => self.storm(args).await,
            Command::Ns(command) => self.namespace(command).await,
            Command::Addr(command) => self.address(command).await,
            Command::Route(command) => self.route(command).await,
            Command::Publish(args) => self.publish(args).await,
            Command::Link(command) => self.link(command).await,
            Command::Vlan(command) => self.vlan(command).await,
            Command::Cable(args) => self.cable(*args).await,
            Command::Process(command) => self.process(command).await,
            Command::Logs(args) => self.logs(args).await,
            Command::Apply(args) => self.apply(args).await,
            Command::Export(args) => self.export(args).await,
            Command::Lab(command) => self.lab(command).await,
            Command::Events(args) => self.events(args).await,
            Command::Capture(args) => self.capture(*args).await,
            Command::Mirror(command) => self.mirror(command).await,
            Command::Trace(args) => self.trace(*args).await,
            Command::Doctor(args) => self.doctor(args).await,
            Command::Bugreport(args) => self.bugreport(args).await,
            Command::Ping(args) => self.ping(args).await,
            Command::Pingall(args) => self.pingall(args).await,
            Command::Shell(args) => self.shell(args).await,
            Command::Ovs(args) => self.ovs(*args).await,
            Command::Bridge(command) => self.bridge(command).await,
            #[cfg(feature = "top")]
            Command::Top(args) => self.top(args).await,
            #[cfg(not(feature = "top"))]
            Command::Top(_) => Err(Failure::usage(
                "top",
                "this vswitchctl was built without it (cargo feature `top`)",
                "`vswitchctl show --watch` shows ports and what they carry",
            )),
            Command::LogLevel(args) => self.log_level(args).await,
            Command::Status => self.status().await,
            Command::InstallService(args) => self.install_service(&args),
            Command::Restart(args) => self.restart(args).await,
            Command::Reset(args) => self.reset(args).await,
            Command::Completions(args) => self
                .out
                .print(&String::from_utf8_lossy(&generate::completions(args.shell))),
            Command::Man(args) => man(&self.out, &args),
        }
    }

    /// Sends a request that changes something and prints what it changed.
    async fn change(
        &self,
        method: Method,
        path: &str,
        options: ChangeOptions,
        body: Option<&impl Serialize>,
    ) -> Result<(), Failure> {
        let changes = self.client.change(method, path, options, body).await?;
        self.out.changes(&changes, options.dry_run)
    }

    /// The same for a removal.
    async fn remove(&self, path: &str, options: ChangeOptions) -> Result<(), Failure> {
        self.change(Method::DELETE, path, options, NO_BODY).await
    }
}

/// Whether it goes into namespaces itself, and so has to know where they are.
fn enters_namespaces(command: &Command) -> bool {
    match command {
        Command::Ns(NsCommand::Exec { entrance, .. }) => entrance.is_none(),
        Command::Ping(_) | Command::Pingall(_) | Command::Shell(_) => true,
        // Whoever looks at the installation compares with what is in there.
        Command::Doctor(_) | Command::Bugreport(_) | Command::Top(_) => true,
        Command::Lab(LabCommand::Test(_)) => true,
        _ => false,
    }
}

impl From<Removal> for ChangeOptions {
    fn from(removal: Removal) -> Self {
        Self {
            dry_run: removal.dry_run,
            idempotent: removal.if_exists,
            ..Self::default()
        }
    }
}

impl From<Addition> for ChangeOptions {
    fn from(addition: Addition) -> Self {
        Self {
            dry_run: addition.dry_run,
            idempotent: addition.if_not_exists,
            ..Self::default()
        }
    }
}

impl From<Trial> for ChangeOptions {
    fn from(trial: Trial) -> Self {
        Self {
            dry_run: trial.dry_run,
            ..Self::default()
        }
    }
}

impl From<&OnlySwitch> for SwitchFilter {
    fn from(only: &OnlySwitch) -> Self {
        Self {
            switch: only.switch.clone(),
        }
    }
}

impl Session {
    /// Changes something by what a port is now, whoever else changes that at the same time: reads the port at `read`, and patches what is
    /// at `write`.
    async fn patch_as_it_is(
        &self,
        read: &str,
        write: &str,
        options: ChangeOptions,
        patch: impl Fn(&PortView) -> Result<MergePatch, Failure>,
    ) -> Result<(), Failure> {
        let write = with_options(write, options)?;
        let changes = until_unchanged(async || {
            let (now, tag): (PortView, _) = self.client.get_tagged(read).await?;
            let patch = patch(&now)?;
            let changed = self.client.send_if(Method::PATCH, &write, tag.as_ref(), Some(&patch));
            changed.await.map_err(Failure::from)
        })
        .await?;
        self.out.changes(&changes, options.dry_run)
    }
}

/// Makes a change of what was read before on the condition that it is still so, again where it is not.
async fn until_unchanged<T>(attempt: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(Failure::Error { error, .. }) if error.code == ErrorCode::Changed => {}
            done => return done,
        }
    }
    attempt().await
}
