//! `compare`: this switch side by side with a Linux bridge, Open vSwitch and VDE, on one machine, in one run.
//!
//! Every peer joins the same two namespaces, one peer at a time; each round goes over all of them, so that whatever
//! else the machine does meets all alike. Without a subcommand the comparison itself is run.
#![expect(clippy::print_stdout, reason = "a command-line tool prints its result")]

mod big_tcp;
mod churn;
mod command;
mod engines;
mod generator;
mod impair;
mod lab;
mod measure;
mod peers;
mod report;
mod sandbox;
mod scale;
mod suite;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::process::ExitCode;
use std::time::Duration;

use generator::Generator;
use lab::Lab;
use measure::{Group, Lengths, Sample, measure};
use peers::Peer;
use report::{Failure, Files, Machine, PeerSample, Report, Settings};

/// Compares this switch with others, in private namespaces that leave nothing behind. Needs root.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    compare: Compare,
}

#[derive(Subcommand)]
enum Command {
    /// Sends frames as fast as the interface takes them and prints what became of them (JSON)
    ///
    /// Example: compare gen eth0 --to 02:00:00:00:00:02 --size 60
    Gen(Gen),
    /// Starts the daemon with many ports: memory, time of add-port, processor time when idle (JSON)
    Memory {
        /// Ports present
        #[arg(long, default_value_t = 100)]
        count: u32,
    },
    /// Makes the same lab of many namespaces by a script with a Linux bridge and by this switch, and takes it away (JSON)
    Churn {
        /// Namespaces, each with a port and an address
        #[arg(long, default_value_t = 1000)]
        count: u32,
        /// Rounds over both
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
    /// Measures how exact delay, rate and loss of impaired ports are (JSON)
    Impair {
        /// Seconds of each delay and rate
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// Datagrams of each loss
        #[arg(long, default_value_t = 50_000)]
        datagrams: u32,
    },
    /// Plain system calls against io_uring on TAP devices, 60-byte frames, one worker (JSON)
    Engines {
        /// Rounds over both
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Seconds of each run
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// RFC 2544, RFC 2889 and scaling curves of each peer
    ///
    /// Example: compare suite --json s.json --svg s.svg --markdown benchmarks.md
    Suite(Suite),
    /// Attaches many ports and pings from every one to the next and to the first (JSON)
    Ports {
        /// Ports present
        #[arg(long, default_value_t = 200)]
        count: u32,
    },
}

#[derive(Args)]
struct Gen {
    /// Interface to send from
    interface: String,
    /// Destination MAC address
    #[arg(long, value_name = "MAC", value_parser = |text: &str| lab::parse_mac(text).ok_or("not a MAC address"))]
    to: [u8; 6],
    /// Length of a frame in octets, without frame check sequence
    #[arg(long, default_value_t = 60)]
    size: usize,
    /// How long
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

#[derive(Args)]
struct Suite {
    /// Peers; this switch, the Linux bridge and Open vSwitch, as they are installed, if not given
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Parts; all if not given
    #[arg(long, value_delimiter = ',')]
    only: Vec<suite::Part>,
    /// Rounds over all peers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Milliseconds of a trial
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..))]
    trial_ms: u64,
    /// Bytes of the longest TCP frames of bridge-big
    #[arg(long, default_value_t = big_tcp::BYTES, value_name = "BYTES")]
    big_bytes: u32,
    /// Seconds of each TCP run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    tcp_seconds: u32,
    /// Loss in percent with which a trial of the throughput still passes
    #[arg(long, default_value_t = 0.1)]
    loss: f64,
    /// Of each curve only both ends, with coarse searches: to see that all works
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    files: Files,
}

#[derive(Args)]
struct Compare {
    /// Rounds over all peers
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Peers, in the order of the report; all that are installed if not given
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Groups of measures; all if not given
    #[arg(long, value_delimiter = ',')]
    only: Vec<Group>,
    /// A line for this switch's [datapath], such as "workers = 1"; can be given several times
    #[arg(long, value_name = "LINE")]
    #[allow(rustdoc::broken_intra_doc_links, reason = "`--help` shows it as it stands")]
    datapath: Vec<String>,
    /// Bytes of the longest TCP frames of bridge-big
    #[arg(long, default_value_t = big_tcp::BYTES, value_name = "BYTES")]
    big_bytes: u32,
    /// Seconds of each TCP run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    tcp_seconds: u32,
    /// Seconds of each run of the frame generator
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    frame_seconds: u32,
    /// Seconds of each round-trip run
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    rtt_seconds: u32,
    #[command(flatten)]
    files: Files,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Gen(arguments)) => generate(&arguments).map(|()| ExitCode::SUCCESS),
        Some(Command::Memory { count }) => sandbox::enter(|| print_json(&scale::memory(count)?)),
        Some(Command::Churn { count, rounds }) => sandbox::enter(|| print_json(&churn::churn(count, rounds)?)),
        Some(Command::Impair { seconds, datagrams }) => {
            sandbox::enter(|| print_json(&impair::impair(seconds, datagrams)?))
        }
        Some(Command::Engines { rounds, seconds }) => {
            sandbox::enter(|| print_json(&engines::engines(rounds, seconds)?))
        }
        Some(Command::Suite(arguments)) => sandbox::enter(|| run_suite(&arguments)),
        Some(Command::Ports { count }) => sandbox::enter(|| print_json(&scale::ports(count)?)),
        None => sandbox::enter(|| compare(&cli.compare)),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("compare: {error:#}");
        ExitCode::FAILURE
    })
}

fn generate(arguments: &Gen) -> Result<()> {
    let generator = Generator::open(&arguments.interface, arguments.to, arguments.size)?;
    print_json(&generator.run(Duration::from_secs(arguments.seconds))?)
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn run_suite(arguments: &Suite) -> Result<()> {
    arguments.files.check_directories()?;
    let peers = if arguments.peers.is_empty() {
        let all = installed(&[])?;
        suite::PEERS.into_iter().filter(|peer| all.contains(peer)).collect()
    } else {
        installed(&arguments.peers)?
    };
    let lengths = suite::Lengths::new(
        arguments.trial_ms,
        arguments.tcp_seconds,
        arguments.loss,
        arguments.quick,
    );
    let parts = match &arguments.only[..] {
        [] => suite::Part::value_variants(),
        some => some,
    };
    let suite = suite::run(&peers, parts, arguments.rounds, lengths)?;
    println!("{}", suite.text());
    let section = |chart: Option<&str>| suite.section(chart);
    arguments.files.write(&suite, &suite.chart(), suite::SECTION, section)?;
    suite.check()
}

fn compare(arguments: &Compare) -> Result<()> {
    arguments.files.check_directories()?;
    let settings = Settings {
        rounds: arguments.rounds,
        seconds: Lengths {
            tcp: arguments.tcp_seconds,
            frames: arguments.frame_seconds,
            rtt: arguments.rtt_seconds,
        },
        groups: all_if_empty(&arguments.only),
        peers: installed(&arguments.peers)?,
        datapath: arguments.datapath.clone(),
        big_bytes: arguments.big_bytes,
    };
    let mut report = Report {
        machine: Machine::read()?,
        settings,
        summary: Vec::new(),
        samples: Vec::new(),
        failures: Vec::new(),
    };
    let settings = &report.settings;
    for round in 1..=settings.rounds {
        for peer in &settings.peers {
            eprintln!("round {round} of {}: {}", settings.rounds, peer.name());
            let mut figures = Sample::new();
            if let Err(error) = one_round(*peer, settings, &mut figures) {
                let error = format!("{error:#}");
                eprintln!("compare: {}: {error}", peer.name());
                report.failures.push(Failure {
                    round,
                    peer: *peer,
                    error,
                });
            }
            report.samples.push(PeerSample {
                round,
                peer: *peer,
                figures,
            });
        }
    }
    report.summary = report::summarise(&settings.peers, &report.samples);

    println!("{}", report::text(&report));
    let section = |chart: Option<&str>| report::section(&report, chart);
    arguments
        .files
        .write(&report, &report::chart(&report), report::SECTION, section)?;
    match report.failures.len() {
        0 => Ok(()),
        failures => bail!("{failures} of {} tries failed", report.samples.len()),
    }
}

/// Sets the peer up afresh, measures it and takes it down again.
fn one_round(peer: Peer, settings: &Settings, figures: &mut Sample) -> Result<()> {
    let mut lab = Lab::new()?;
    lab.datapath.clone_from(&settings.datapath);
    lab.big_bytes = settings.big_bytes;
    let mut running = peer.set_up(&lab)?;
    let connected = lab.wait_connected();
    running.check_alive()?;
    connected?;
    measure(&lab, &mut running, &settings.groups, settings.seconds, figures)
}

fn all_if_empty<T: clap::ValueEnum>(asked: &[T]) -> Vec<T> {
    if asked.is_empty() {
        T::value_variants().to_vec()
    } else {
        asked.to_vec()
    }
}

/// The peers asked for; without a wish all that can be run here.
fn installed(asked: &[Peer]) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for peer in all_if_empty(asked) {
        match peer.lacks()? {
            None => peers.push(peer),
            Some(program) if asked.is_empty() => eprintln!("{} is left out: no {program} here", peer.name()),
            Some(program) => bail!("{}: no {program} here", peer.name()),
        }
    }
    Ok(peers)
}
