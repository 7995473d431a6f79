//! `cargo xtask monitoring` and `cargo xtask api-check`: others' tools held against what the daemon shows.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::shell::{build_programs, cargo, headline, root, run, target_dir};
use crate::tools;

/// What both build.
fn build() -> Result<()> {
    headline("Build");
    build_programs(&[])
}

/// Has promtool check the alert rules, play their tests and read the daemon's metrics.
pub fn monitoring() -> Result<()> {
    tools::need_root("the test of the metrics")?;
    tools::ensure(&[("promtool", "prometheus")])?;
    headline("Check the alert rules and the configuration beside them");
    let promtool = |words: &[&str]| {
        let mut command = Command::new("promtool");
        command.args(words).current_dir(root().join("configs/monitoring"));
        run(&mut command)
    };
    promtool(&["check", "config", "prometheus.yml"])?;
    headline("Play the tests of the alert rules");
    promtool(&["test", "rules", "alerts_test.yml"])?;
    build()?;
    headline("Check the metrics");
    let words = [
        "nextest",
        "run",
        "-p",
        "vswitch-tests",
        "--test",
        "monitoring",
        "metrics",
        "promtool",
    ];
    run(&mut cargo(&words))?;
    run(&mut cargo(&["nextest", "run", "-p", "vswitch", "server::metrics"]))
}

/// What checks the OpenAPI document, as npm knows it; it needs Node 20.
const REDOCLY: &str = "@redocly/cli@2";
/// What makes a client for JavaScript of it.
const GENERATOR: &str = "swagger-typescript-api@13";

/// Has Redocly check the OpenAPI document, schemathesis ask the daemon all that it allows and more, for a time, generated clients in Python and
/// JavaScript use it, and Ansible apply the role.
pub fn api(seconds: u32) -> Result<()> {
    tools::need_root("the check of the API")?;
    tools::ensure(&[("python3", "python3-venv"), ("npm", "npm")])?;
    lint()?;
    let generator = npm(GENERATOR, "generator", "swagger-typescript-api")?;
    let programs = python(&["schemathesis", "openapi-python-client", "ansible-core"])?;
    build()?;
    headline("Ask the daemon by its own document");
    let words = [
        "nextest",
        "run",
        "-p",
        "vswitch-tests",
        "--test",
        "api",
        "--test",
        "automation",
        "--run-ignored",
        "only",
        "--no-capture",
        "by_others_tools",
    ];
    let mut test = cargo(&words);
    test.env("API_TOOLS", programs).env("API_SECONDS", seconds.to_string());
    test.env("API_GENERATOR", generator);
    run(&mut test)
}

/// Has Redocly hold its rules, with those in `docs/api/redocly.yaml`, against the document.
fn lint() -> Result<()> {
    let program = npm(REDOCLY, "redocly", "redocly")?;
    headline("Check the OpenAPI document");
    let mut lint = Command::new(program);
    lint.args(["lint", "--config", "docs/api/redocly.yaml", "docs/openapi.json"]);
    // It tells its maker of each run otherwise.
    lint.env("REDOCLY_TELEMETRY", "off")
        .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    run(lint.current_dir(root()))
}

/// A program of a package of npm, which is installed if it is not there.
fn npm(package: &str, folder: &str, program: &str) -> Result<PathBuf> {
    let folder = target_dir().join("api-check").join(folder);
    let program = folder.join("node_modules/.bin").join(program);
    if !program.exists() {
        headline(&format!("Install {package}"));
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--loglevel", "error", "--prefix"])
            .arg(&folder);
        run(npm.arg(package))?;
    }
    Ok(program)
}

/// The folder of programs of packages of Python, which are installed if they are not there.
fn python(packages: &[&str]) -> Result<PathBuf> {
    let folder = target_dir().join("api-check/venv");
    let programs = folder.join("bin");
    if !programs.join("pip").exists() {
        headline("Make a place for packages of Python");
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    headline(&format!("Install {}", packages.join(", ")));
    run(Command::new(programs.join("pip"))
        .args(["install", "--quiet"])
        .args(packages))?;
    Ok(programs)
}
