//! `cargo xtask vm`: a command, or black-box tests, under another kernel. virtme-ng boots it in QEMU with this machine's files, of which what is
//! changed is kept in memory alone.

mod kernel;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::{fs, io, thread};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::shell::{build_programs, cargo, headline, root, run, target_dir, with_signals};
use crate::tools;

/// What runs in the machine.
const GUEST: &str = include_str!("guest.sh");
/// A test that takes longer hangs.
const PATIENCE_SECS: u32 = 60;
/// Without KVM all takes some times as long.
const SLOWER: u32 = 6;

/// Options of `cargo xtask vm`.
#[derive(Args)]
#[group(skip)]
pub struct VmArgs {
    /// Debian package of the kernel, such as linux-image-amd64, or one with a version; got by apt-get if it isn't there yet
    #[arg(long, value_name = "NAME", default_value = "linux-image-amd64")]
    package: String,
    /// An image of a kernel that is there already, its modules in ../lib/modules or /lib/modules
    #[arg(long, value_name = "FILE", conflicts_with = "package")]
    kernel: Option<PathBuf>,
    /// Run these black-box tests one by one; can be given several times
    #[arg(long = "test", value_name = "FILE")]
    tests: Vec<String>,
    /// Of these tests only those whose name contains it
    #[arg(long, value_name = "WORD", requires = "tests")]
    only: Option<String>,
    /// Processors of the machine
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u32,
    /// Memory of the machine
    #[arg(long, value_name = "SIZE", default_value = "3G")]
    memory: String,
    /// Emulate the processor, though KVM is there
    #[arg(long)]
    no_kvm: bool,
    /// The command, run by root in the root of the workspace
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "tests")]
    command: Vec<String>,
}

/// Boots the kernel and runs what is asked for. Gives its exit code, or says that there is none.
pub fn vm(args: &VmArgs) -> Result<()> {
    tools::ensure(tools::FOR_VM)?;
    if !tools::is_there("vng") {
        bail!(
            "virtme-ng is not installed: `apt install virtme-ng` (Debian 13 and later), or `pipx install virtme-ng`, so that `vng` is in the PATH"
        );
    }
    let folder = target_dir().join("vm");
    let kernel = match &args.kernel {
        Some(kernel) => kernel
            .canonicalize()
            .with_context(|| format!("there is no kernel {}", kernel.display()))?,
        None => kernel::of_package(&args.package, &folder)?,
    };
    let emulated = args.no_kvm || !has_kvm();
    let results = folder.join("results");
    let programs = folder.join("programs");
    // Of an earlier run.
    for old in [&results, &programs] {
        let _ = fs::remove_dir_all(old);
        fs::create_dir_all(old).with_context(|| format!("{} can't be made", old.display()))?;
    }
    let mut text = format!("folder={}\n", quoted(root().to_string_lossy()));
    text += &format!("results={}\n", quoted(results.to_string_lossy()));
    if args.tests.is_empty() {
        let words: Vec<_> = args.command.iter().map(quoted).collect();
        text += &format!("command={}\n", quoted(words.join(" ")));
    } else {
        let list = stage(&args.tests, args.only.as_deref(), &programs)?;
        let tests = folder.join("tests");
        fs::write(&tests, list).with_context(|| format!("{} can't be written", tests.display()))?;
        let times = if emulated { SLOWER } else { 1 };
        text += &format!("command=\nexport VSWITCH_TEST_PATIENCE={times}\n");
        text += &format!("patience={}\n", PATIENCE_SECS * times);
        text += &format!("programs={}\n", quoted(programs.to_string_lossy()));
        text += &format!("tests={}\n", quoted(tests.to_string_lossy()));
    }
    let script = folder.join("guest.sh");
    fs::write(&script, text + GUEST).with_context(|| format!("{} can't be written", script.display()))?;

    headline(&format!("Boot {}", kernel.display()));
    let mut vng = Command::new("vng");
    vng.arg("--run")
        .arg(&kernel)
        .args(["--user", "root", "--force-9p", "--disable-monitor"])
        .args(["--cpus", &args.cpus.to_string(), "--memory", &args.memory])
        .arg(format!("--rwdir={}", results.display()))
        .arg("--exec")
        .arg(format!("sh {}", quoted(script.to_string_lossy())))
        .stdin(Stdio::null());
    if emulated {
        eprintln!("without KVM: the processor is emulated, which is slow");
        vng.arg("--disable-kvm");
    }
    // Its own exit code is not always that of the command.
    let status = run_by_pipes(&mut vng).context("`vng` can't be run")?;
    let code = fs::read_to_string(results.join("code"))
        .with_context(|| format!("the machine ended before what it was to do ({status})"))?;
    match code.trim().parse::<i32>() {
        Ok(0) => Ok(()),
        Ok(code) => {
            eprintln!("the command in the machine ended with exit code {code}");
            std::process::exit(code)
        }
        Err(_) => bail!("the machine ended before what it was to do ({status})"),
    }
}

/// Runs it with its outputs passed on: QEMU opens them anew, and would empty a file.
fn run_by_pipes(command: &mut Command) -> io::Result<ExitStatus> {
    let mut child = with_signals(command.stdout(Stdio::piped()).stderr(Stdio::piped())).spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        // Who reads no more does not keep the machine from its end.
        scope.spawn(|| out.map(|mut out| io::copy(&mut out, &mut io::stdout())));
        scope.spawn(|| err.map(|mut err| io::copy(&mut err, &mut io::stderr())));
    });
    child.wait()
}

/// Builds the programs, puts them into a folder without what only a debugger reads, and lists the tests, one a line: program and name.
fn stage(tests: &[String], only: Option<&str>, folder: &Path) -> Result<String> {
    headline("Build the programs");
    build_programs(&[])?;
    let mut command = cargo(&[
        "test",
        "--no-run",
        "--package",
        "vswitch-tests",
        "--message-format",
        "json-render-diagnostics",
    ]);
    for test in tests {
        command.args(["--test", test]);
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("cargo can't be run")?;
    if !output.status.success() {
        bail!("the tests can't be built ({})", output.status);
    }
    for program in ["vswitchd", "vswitchctl"] {
        strip(&target_dir().join("debug").join(program), &folder.join(program))?;
    }
    let mut list = String::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let name = message["target"]["name"].as_str().unwrap_or_default();
        let Some(program) = message["executable"]
            .as_str()
            .filter(|_| tests.iter().any(|test| test == name))
        else {
            continue;
        };
        let listed = Command::new(program).arg("--list").output();
        let listed = listed.with_context(|| format!("{program} can't be run"))?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let found = listed.lines().filter_map(|line| line.strip_suffix(": test"));
        for test in found.filter(|test| only.is_none_or(|word| test.contains(word))) {
            list += &format!("{name} {test}\n");
        }
        strip(Path::new(program), &folder.join(name))?;
    }
    if list.is_empty() {
        bail!("no test has that in its name");
    }
    Ok(list)
}

/// A tenth of the size, and so of what the machine has to read.
fn strip(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("strip").arg("-o").args([to, from]))
}

/// Whether KVM can run any kernel: some machines have one for guests that were made for it only (kvm_pvm).
fn has_kvm() -> bool {
    let usable = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    usable
        && ["kvm_intel", "kvm_amd"]
            .iter()
            .any(|module| Path::new("/sys/module").join(module).exists())
}

/// A word as a shell reads it back.
fn quoted(word: impl AsRef<str>) -> String {
    format!("'{}'", word.as_ref().replace('\'', r"'\''"))
}
