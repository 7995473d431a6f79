//! `lab check`, `up`, `down`, `diff`, `list` and `new`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};
use vswitch_api::request::ChangeOptions;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode, Lab, LabName, OwnedByLab, schema};
use vswitch_client::Error;

use super::become_lab::How;
use super::problem::Report;
use super::read::{LabFile, read};
use super::{rules, sides};
use crate::cli::lab::{LabCommand, LabDownArgs, LabUpArgs};
use crate::commands::Session;
use crate::failure::Failure;
use crate::output::table;
use crate::output::tell;

/// Exit codes as that of diff(1).
const EXIT_DIFFERENT: u8 = 1;
const EXIT_TROUBLE: u8 = 2;
/// Something is wrong with a file that was to be checked.
const EXIT_WRONG: u8 = 1;

/// What `lab new` writes.
const EXAMPLE: &str = include_str!("example.toml");

/// Without filters of mirrors, whose programs are made by a tool that may not be there.
fn without_programs(lab: &Lab) -> Lab {
    let mut lab = lab.clone();
    for mirror in &mut lab.mirrors {
        mirror.filter = None;
    }
    lab
}

/// Whether a daemon had its say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    NoDaemon,
}

impl Session {
    pub(in crate::commands) async fn lab(&self, command: LabCommand) -> Result<(), Failure> {
        match command {
            LabCommand::Check(args) => self.check_lab(&args.file).await,
            LabCommand::Up(args) => self.lab_up(args).await,
            LabCommand::Down(args) => self.lab_down(args).await,
            LabCommand::Diff(args) => self.lab_diff(&args.file).await,
            LabCommand::List => self.list_labs().await,
            LabCommand::New(args) => self.new_lab(&args.file),
            LabCommand::Test(args) => self.test_lab(args).await,
            LabCommand::Graph(args) => self.graph_lab(args).await,
            LabCommand::Import(args) => self.import_lab(&args),
            LabCommand::Export(args) => self.export_lab(args).await,
            // JSON in any case.
            LabCommand::Schema => {
                let schema = file_schema();
                self.out.show(&schema, |_| format!("{schema:#}"))
            }
        }
    }

    /// A file for a command that needs it to be right.
    pub(super) fn read_lab(&self, file: &Path) -> Result<LabFile, Failure> {
        read(file)?.map_err(|report| report.refuse(self.out.json()))
    }

    /// An error of the daemon, with its place if the file has one.
    pub(super) fn placed(&self, file: &LabFile, failure: Failure) -> Failure {
        let Failure::Error { error, exit } = &failure else {
            return failure;
        };
        match (error.code, file.place(error)) {
            (ErrorCode::Invalid, Some(problem)) => {
                let error = ApiError {
                    object: format!("{}:{}:{}: {}", file.path, problem.line, problem.column, error.object),
                    ..error.clone()
                };
                Failure::Error { error, exit: *exit }
            }
            _ => failure,
        }
    }

    async fn check_lab(&self, path: &Path) -> Result<(), Failure> {
        let (report, asked) = match read(path)? {
            Err(report) => (report, Asked::Yes),
            Ok(file) => {
                for (one, other) in rules::one_to_dns(&file.lab) {
                    tell!(
                        "warning: {}: ports {one:?} and {other:?} have one name to DNS",
                        file.path
                    );
                }
                let told = match file.more() {
                    Some(report) => (report, Asked::Yes),
                    None => self.ask_about(&file).await?,
                };
                if let ((Report { ok: true, .. }, Asked::Yes), Some(error)) = (&told, self.would_refuse(&file).await) {
                    let ApiError { object, cause, .. } = error;
                    tell!(
                        "warning: {}: as things are now, `lab up` refuses it: {object}: {cause}",
                        file.path
                    );
                }
                told
            }
        };
        self.out.show(&report, |_| match (report.ok, asked) {
            (true, Asked::Yes) => format!("{}: nothing is wrong\n", report.file),
            (true, Asked::NoDaemon) => {
                format!(
                    "{}: nothing is wrong, as far as can be told without vswitchd, which does not answer\n",
                    report.file
                )
            }
            (false, _) => report.text(),
        })?;
        match report.ok {
            true => Ok(()),
            false => Err(Failure::Reported(EXIT_WRONG)),
        }
    }

    /// What a daemon says of the file, if one is there: what it refuses for the state that it is in is not the file's fault.
    async fn ask_about(&self, file: &LabFile) -> Result<(Report, Asked), Failure> {
        let good = Report::new(&file.path, Vec::new());
        let lab = without_programs(&file.lab);
        let error = match self.would_take(&lab).await {
            Err(Error::Daemon(error)) => error,
            Ok(()) => return Ok((good, Asked::Yes)),
            Err(_) => return Ok((good, Asked::NoDaemon)),
        };
        let is_of_file = match error.code {
            ErrorCode::Invalid => true,
            ErrorCode::Conflict => !rules::is_of_there(&error) && self.refuses_beside(file, &lab, &error).await,
            _ => false,
        };
        match (is_of_file, file.place(&error)) {
            (false, _) => Ok((good, Asked::Yes)),
            (true, Some(problem)) => Ok((file.report(problem), Asked::Yes)),
            (true, None) => Err(error.into()),
        }
    }

    /// Whether what is refused of a lab alone is refused of it beside what is there, as `lab up` would have it.
    async fn refuses_beside(&self, file: &LabFile, lab: &Lab, error: &ApiError) -> bool {
        let (Ok(there), Ok(name)) = (self.client.lab().await, file.lab_name()) else {
            return false;
        };
        let Ok(wanted) = sides::with(&there, lab, &name) else {
            return false;
        };
        let refused = self.would_take(&wanted).await;
        matches!(refused, Err(Error::Daemon(other)) if other.cause == error.cause)
    }

    /// Why `lab up` would not bring it up beside what is there now, if so.
    async fn would_refuse(&self, file: &LabFile) -> Option<ApiError> {
        let (lab, name) = (without_programs(&file.lab), file.lab_name().ok()?);
        let how = How {
            dry_run: true,
            ..How::new("lab check", Some(name.clone()))
        };
        match self.become_lab(&how, |there| sides::with(there, &lab, &name)).await {
            Err(Failure::Error { error, .. }) => Some(error),
            _ => None,
        }
    }

    /// Whether the daemon would take this for all that is to be there.
    async fn would_take(&self, lab: &Lab) -> Result<(), Error> {
        let options = ChangeOptions {
            dry_run: true,
            force: true,
            ..ChangeOptions::default()
        };
        self.client.replace_lab(lab, options, None).await.map(drop)
    }

    async fn lab_up(&self, args: LabUpArgs) -> Result<(), Failure> {
        let file = self.read_lab(&args.file)?;
        let how = How {
            dry_run: args.dry_run,
            force: args.force,
            yes: args.yes,
            can_ask: args.file != Path::new("-"),
            ..How::new("lab up", Some(file.lab_name()?))
        };
        let changes = self.up(&file, &how).await?;
        self.out.changes(&changes, args.dry_run)
    }

    async fn up(&self, file: &LabFile, how: &How) -> Result<Changes, Failure> {
        let name = file.lab_name()?;
        self.become_lab(how, |there| sides::with(there, &file.lab, &name))
            .await
            .map_err(|e| self.placed(file, e))
    }

    async fn lab_down(&self, args: LabDownArgs) -> Result<(), Failure> {
        let text = args.lab.display().to_string();
        let there: Lab = self.client.lab().await?;
        let by_name = text.parse::<LabName>().ok();
        let is_up = |name: &LabName| there.owned_by(name).is_some();
        let (name, file) = match by_name.filter(|name| is_up(name)) {
            Some(name) => (name, None),
            None if args.lab.exists() || text == "-" => {
                let file = self.read_lab(&args.lab)?;
                (file.lab_name()?, Some(file))
            }
            None if args.removal.if_exists => return self.out.changes(&Changes::default(), args.removal.dry_run),
            None => return Err(no_lab(&text, &there)),
        };
        let how = How {
            dry_run: args.removal.dry_run,
            // That something goes is what was asked for.
            yes: true,
            ..How::new("lab down", Some(name.clone()))
        };
        let changes = self
            .become_lab(&how, |there| {
                let owned = there.owned_by(&name).cloned();
                let owned = owned.or_else(|| Some(sides::named(there, &file.as_ref()?.lab, &name)));
                match owned {
                    Some(owned) => sides::without(there, &owned),
                    None => Ok(there.clone()),
                }
            })
            .await?;
        self.out.changes(&changes, args.removal.dry_run)
    }

    async fn lab_diff(&self, path: &Path) -> Result<(), Failure> {
        let changes = async {
            let file = self.read_lab(path)?;
            let how = How {
                dry_run: true,
                force: true,
                yes: true,
                ..How::new("lab diff", Some(file.lab_name()?))
            };
            self.up(&file, &how).await
        };
        let changes = match changes.await {
            Ok(changes) => changes,
            Err(Failure::Error { error, .. }) => {
                return Err(Failure::Error {
                    error,
                    exit: EXIT_TROUBLE,
                });
            }
            Err(other) => return Err(other),
        };
        self.out.changes(&changes, true)?;
        match changes.done.is_empty() {
            true => Ok(()),
            false => Err(Failure::Reported(EXIT_DIFFERENT)),
        }
    }

    async fn list_labs(&self) -> Result<(), Failure> {
        let there: Lab = self.client.known_lab().await?;
        self.out.show(&there.labs, |style| {
            if there.labs.is_empty() {
                return "no lab is up; `vswitchctl lab up FILE` brings one up\n".to_owned();
            }
            let counts = ["SWITCHES", "PORTS", "CABLES", "MIRRORS", "NAMESPACES", "COMMANDS"].map(table::number);
            let mut table = table::Table::new(style, &[&[table::word("LAB")], &counts[..]].concat());
            there.labs.iter().for_each(|owned| table.row(row(owned)));
            table.render()
        })
    }

    fn new_lab(&self, path: &Path) -> Result<(), Failure> {
        let object = format!("lab file {}", path.display());
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let written = file.and_then(|mut file| file.write_all(EXAMPLE.as_bytes()));
        written.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => ApiError::new(
                ErrorCode::Conflict,
                object,
                "it is there already and is not overwritten",
            )
            .hint("choose another name"),
            _ => ApiError::new(ErrorCode::Invalid, object, format!("it can't be written: {e}"))
                .hint("choose a place that can be written to"),
        })?;
        let path = path.display().to_string();
        self.out.show(&json!({ "file": path }), |_| {
            format!("wrote {path}; `vswitchctl lab up {path}` makes what it says\n")
        })
    }
}

fn row(owned: &OwnedByLab) -> [String; 7] {
    [
        owned.name.to_string(),
        owned.switches.len().to_string(),
        owned.ports.len().to_string(),
        owned.cables.len().to_string(),
        owned.mirrors.len().to_string(),
        owned.namespaces.len().to_string(),
        owned.commands.len().to_string(),
    ]
}

pub(super) fn no_lab(name: &str, there: &Lab) -> Failure {
    let known = there.labs.iter().map(|lab| lab.name.as_str());
    let hint = match super::words::meant(name, known) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "`vswitchctl lab list` shows the labs that are up".to_owned(),
    };
    ApiError::new(
        ErrorCode::NotFound,
        format!("lab {name:?}"),
        "neither a lab nor a file is called so",
    )
    .hint(hint)
    .into()
}

/// The schema of the lab with what only files have.
fn file_schema() -> Value {
    let mut schema = schema::lab();
    with_ranges(&mut schema);
    if let Some(properties) = schema["properties"].as_object_mut() {
        let about = "Name of the lab; else that of the file without its ending.";
        let name = json!({"type": "string", "description": about, "minLength": 1, "maxLength": 63});
        properties.insert("name".to_owned(), name);
        let about = "Who is to reach whom, for `vswitchctl lab test`: \"red -> blue\", \"!guest -> server\", \"a <-> b\", \"* -> *\".";
        let reach = json!({"type": "array", "description": about, "items": {"type": "string"}});
        properties.insert("reach".to_owned(), reach);
    }
    schema
}

/// In a file a name may have a range in it, which is longer than what it makes.
fn with_ranges(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let pattern = members.get("pattern").and_then(Value::as_str);
            if let Some(allowed) = pattern.and_then(|pattern| pattern.strip_prefix("^[A-Za-z0-9_@+]")) {
                let either = format!("^[A-Za-z0-9_@+]{allowed}|[{{].*[}}]");
                members.insert("pattern".to_owned(), either.into());
                members.remove("maxLength");
            }
            members.values_mut().for_each(with_ranges);
        }
        Value::Array(list) => list.iter_mut().for_each(with_ranges),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_of_files_has_what_only_files_have() {
        let schema = file_schema();
        assert!(schema["properties"]["reach"].is_object() && schema["properties"]["name"].is_object());
        assert!(schema.to_string().contains(r"$|[{].*[}]"), "{schema:#}");
    }
}
