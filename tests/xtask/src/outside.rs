//! `cargo xtask monitoring` and `cargo xtask api-check`: others' tools held against what the daemon shows.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::shell::{cargo, headline, root, run, target_dir};
use crate::tools;

/// Has promtool check the alert rules, play their tests and read the daemon's metrics.
pub fn monitoring() -> Result<()> {
    tools::need_root("the test of the metrics")?;
    tools::ensure(&[("promtool", "prometheus")])?;
    headline("Check the metrics and the alert rules");
    run(&mut cargo(&["nextest", "run", "--workspace", "promtool", "metrics"]))
}

/// What checks the OpenAPI document, as npm knows it; it needs Node 20.
const REDOCLY: &str = "@redocly/cli@2";
/// What makes a client for JavaScript of it.
const GENERATOR: &str = "swagger-typescript-api@13";

/// What asks the daemon by its own document, makes a client of it in Python, and applies the role.
const PYTHON: [&str; 3] = ["schemathesis", "openapi-python-client", "ansible-core"];

/// Has schemathesis ask the daemon all that its document allows and more, for a time, a generated client in Python use it, and Ansible apply the
/// role; and if `npm` is there to be used, Redocly check the document, and a client in JavaScript use it as well.
pub fn api(seconds: u32, npm: bool) -> Result<()> {
    tools::need_root("the check of the API")?;
    let programs = python()?;
    let mut words = vec!["the_api_is_used_by_others_tools", "the_role_is_used_by_others_tools"];
    let mut variables = vec![("API_TOOLS", programs), ("API_SECONDS", seconds.to_string().into())];
    if npm {
        lint()?;
        variables.push((
            "API_GENERATOR",
            self::npm(GENERATOR, "generator", "swagger-typescript-api")?,
        ));
        words.push("the_api_is_used_from_javascript");
    }
    headline("Ask the daemon by its own document");
    let mut test = cargo(&["nextest", "run", "--workspace", "--run-ignored", "only", "--no-capture"]);
    run(test.args(words).envs(variables))
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
    tools::ensure(&[("npm", "npm")])?;
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

/// The folder of the programs of [`PYTHON`], which are installed if they are not there.
///
/// # Errors
/// They can't be had.
pub fn python() -> Result<PathBuf> {
    tools::ensure(&[("python3", "python3-venv")])?;
    let folder = target_dir().join("api-check/venv");
    let programs = folder.join("bin");
    if !programs.join("pip").exists() {
        headline("Make a place for packages of Python");
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    headline(&format!("Install {}", PYTHON.join(", ")));
    run(Command::new(programs.join("pip"))
        .args(["install", "--quiet"])
        .args(PYTHON))?;
    Ok(programs)
}
