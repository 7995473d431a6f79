//! Instructions that a frame costs between receiving and sending, counted by callgrind: the same on a busy machine as on
//! an idle one, so that a change that makes frames dearer shows at once. No I/O is in it, nor egress.
//!
//! `cargo xtask instructions` compares with `counts.json` and fails beyond its tolerance; with `--write` it writes the counts
//! there. Each case runs in a process of its own, which is this program again. Needs root and valgrind.

mod cases;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use cases::{CASES, Case, FRAMES};

/// Counts that are kept, beside this file.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/counts.json");
/// The FDB's hash is keyed at random, so how many slots are looked at differs a little.
const TOLERANCE_PERCENT: f64 = 3.0;

/// Kept counts.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The compiler that they are of: another makes other instructions.
    rustc: String,
    /// What a count may be above or below.
    tolerance_percent: f64,
    /// Instructions for a frame, by case.
    per_frame: BTreeMap<String, f64>,
}

fn main() -> Result<ExitCode> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--case", name] => {
            let case = CASES.iter().find(|case| case.name == name);
            cases::run(case.with_context(|| format!("no case {name:?}"))?)?;
        }
        ["--write"] => {
            let kept = Kept {
                rustc: rustc()?,
                tolerance_percent: TOLERANCE_PERCENT,
                per_frame: count_all()?,
            };
            fs::write(KEPT, serde_json::to_string_pretty(&kept)? + "\n").context(KEPT)?;
        }
        [] => {
            let kept = fs::read_to_string(KEPT).context(KEPT)?;
            return compare(&serde_json::from_str(&kept).context(KEPT)?);
        }
        _ => bail!("arguments: none, or --write"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Counts all cases and tells how they stand to those that are kept.
fn compare(kept: &Kept) -> Result<ExitCode> {
    let (counts, rustc) = (count_all()?, rustc()?);
    if rustc != kept.rustc {
        eprintln!("not compared: the kept counts are of {}, these of {rustc}", kept.rustc);
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = false;
    for (name, count) in counts {
        let before = kept
            .per_frame
            .get(&name)
            .with_context(|| format!("{KEPT} has no {name:?}"))?;
        let percent = (count / before - 1.0) * 100.0;
        let beyond = percent.abs() > kept.tolerance_percent;
        failed |= beyond;
        let verdict = match percent {
            _ if !beyond => "",
            ..0.0 => "FEWER",
            _ => "MORE",
        };
        eprintln!("{name:<26} kept {before:>7.1}  {percent:>+5.1} % {verdict}");
    }
    if failed {
        eprintln!(
            "instructions for a frame differ by more than {} %; if it has to be so, or is a gain: `cargo xtask \
             instructions --write`, and say why",
            kept.tolerance_percent
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// `rustc 1.95.0 (...)`, the one that cargo calls here.
fn rustc() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("rustc")?;
    ensure!(output.status.success(), "rustc --version: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn count_all() -> Result<BTreeMap<String, f64>> {
    let counted = CASES.iter().map(|case| {
        let count = count(case).with_context(|| case.name)?;
        eprintln!("{:<26}{count:>8.1} instructions a frame", case.name);
        Ok((case.name.to_owned(), count))
    });
    counted.collect()
}

/// Instructions for a frame, to one decimal.
fn count(case: &Case) -> Result<f64> {
    let out = env::temp_dir().join(format!("vswitch-callgrind-{}", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*measured_way*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe()?)
        .args(["--case", case.name])
        .output()
        .context("valgrind can't be run; is it installed?")?;
    let text = fs::read_to_string(&out).unwrap_or_default();
    let _ = fs::remove_file(&out);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{said}", output.status);
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total.context("callgrind wrote no totals")?.trim().parse()?;
    ensure!(total > 0, "callgrind has counted nothing\n{said}");
    Ok((total as f64 * 10.0 / FRAMES as f64).round() / 10.0)
}
