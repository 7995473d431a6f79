//! The lab as a whole.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::ops::Range;
use std::path::Path;

use hyper::Method;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use vswitch_api::difference::would;
use vswitch_api::request::ChangeOptions;
use vswitch_api::strict;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode, Lab};

use super::capture::compile;
use super::{Session, until_unchanged, with_options};
use crate::cli::lab::{ApplyArgs, ResetArgs};
use crate::client::NO_BODY;
use crate::failure::Failure;

const DRY_RUN: ChangeOptions = ChangeOptions {
    dry_run: true,
    idempotent: false,
    force: false,
};
/// So many of the things that would go are named in an error.
const NAMED: usize = 20;

impl Session {
    pub(super) async fn apply(&self, args: ApplyArgs) -> Result<(), Failure> {
        let mut lab = read_lab(&args.file)?;
        for filter in lab.mirrors.iter_mut().filter_map(|mirror| mirror.filter.as_mut()) {
            if filter.program.is_none() {
                filter.program = Some(compile(&filter.expression)?);
            }
        }
        let options = ChangeOptions {
            dry_run: args.dry_run,
            force: args.force,
            ..ChangeOptions::default()
        };
        if args.dry_run || args.yes {
            return self.change(Method::PUT, "/v1/lab", options, Some(&lab)).await;
        }
        let plan = ChangeOptions {
            dry_run: true,
            ..options
        };
        // What is there when it is removed is what was asked about.
        let changes: Changes = until_unchanged(async || {
            let tag = self.client.tag("/v1/lab").await?;
            let put = async |options| {
                let path = with_options("/v1/lab", options)?;
                self.client
                    .send_if::<Changes>(Method::PUT, &path, tag.as_ref(), Some(&lab))
                    .await
            };
            let plan = put(plan).await?;
            // What comes from standard input leaves none to answer by.
            let can_answer = args.file != Path::new("-") && io::stdin().is_terminal();
            match plan.removed.is_empty() {
                true => {}
                false if can_answer => confirm("apply", &plan)?,
                false => return Err(would_remove(&plan.removed)),
            }
            put(options).await
        })
        .await?;
        self.out.changes(&changes, false)
    }

    pub(super) async fn export(&self) -> Result<(), Failure> {
        let lab: Lab = self.client.get("/v1/lab").await?;
        let mut written = lab.clone();
        for filter in written.mirrors.iter_mut().filter_map(|mirror| mirror.filter.as_mut()) {
            // What `apply` makes of the expression again need not stand in the file.
            filter
                .program
                .take_if(|program| compile(&filter.expression).is_ok_and(|made| made == *program));
        }
        let text = toml::to_string_pretty(&written)
            .map_err(|e| ApiError::new(ErrorCode::Internal, "lab", format!("it can't be written as TOML: {e}")))?;
        self.out.show(&lab, |_| text)
    }

    pub(super) async fn reset(&self, args: ResetArgs) -> Result<(), Failure> {
        if args.dry_run {
            return self.change(Method::POST, "/v1/reset", DRY_RUN, NO_BODY).await;
        }
        if !args.yes {
            if !io::stdin().is_terminal() {
                return Err(Failure::usage(
                    "reset",
                    "it removes everything that vswitch made, and there is no terminal to ask on",
                    "add --yes, or see with -n what would go",
                ));
            }
            let changes: Changes = self
                .client
                .send(Method::POST, &with_options("/v1/reset", DRY_RUN)?, NO_BODY)
                .await?;
            confirm("reset", &changes)?;
        }
        self.change(Method::POST, "/v1/reset", ChangeOptions::default(), NO_BODY)
            .await
    }
}

/// There is nobody to ask.
fn would_remove(removed: &[String]) -> Failure {
    let named = removed.iter().take(NAMED).map(String::as_str);
    let mut named: Vec<_> = named.map(|line| line.trim_start_matches("removed ")).collect();
    let more = format!("{} more", removed.len().saturating_sub(NAMED));
    if removed.len() > NAMED {
        named.push(&more);
    }
    let cause = format!(
        "the file does not name all that is there, and this would be removed: {}. Nothing was changed",
        named.join(", ")
    );
    ApiError::new(ErrorCode::Conflict, "apply", cause)
        .hint("add --yes if that is meant; `vswitchctl apply -n` shows the whole plan")
        .into()
}

/// Asks on standard error, so that the output stays what was done.
fn confirm(command: &str, changes: &Changes) -> Result<(), Failure> {
    let mut stderr = io::stderr().lock();
    for line in &changes.done {
        writeln!(stderr, "{}", would(line)).map_err(|e| Failure::system("terminal", &e))?;
    }
    write!(stderr, "Do it? [y/N] ")
        .and_then(|()| stderr.flush())
        .map_err(|e| Failure::system("terminal", &e))?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| Failure::system("terminal", &e))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(ApiError::new(ErrorCode::Conflict, command, "not confirmed, nothing was done").into()),
    }
}

fn read_lab(file: &Path) -> Result<Lab, Failure> {
    let mut text = String::new();
    let object = if file == Path::new("-") {
        io::stdin()
            .lock()
            .read_to_string(&mut text)
            .map(|_| "standard input".to_owned())
    } else {
        std::fs::read_to_string(file).map(|read| {
            text = read;
            format!("lab file {}", file.display())
        })
    };
    let object = object.map_err(|e| unreadable(file, &e))?;
    let wrong = |span: Option<Range<usize>>, cause: &str| {
        let line = span.map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let object = line.map_or(object.clone(), |line| format!("{object} line {line}"));
        let mut cause = cause.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(source) = line.and_then(|line| text.lines().nth(line - 1)) {
            cause = format!("{cause} in `{}`", source.trim());
        }
        Failure::usage(object, cause, "see `vswitchctl export` for how a lab file looks")
    };
    let unread = |e: toml::de::Error| wrong(e.span(), e.message());
    let document = DeTable::parse(&text).map_err(unread)?.into_inner();
    // Also where the command on the other side of the pipe failed: everything would be removed.
    if document.is_empty() {
        return Err(Failure::usage(
            object,
            "it is empty, so nothing was changed",
            "did the command that writes it fail? A lab without anything is `ports = []`; `vswitchctl reset` removes everything",
        ));
    }
    // TOML has numbers with a sign, and 1400 may be read out of +1400 where 1400 more is meant.
    if let Some(span) = document.values().find_map(|value| with_plus(value, &text)) {
        return Err(wrong(Some(span), "a number has no sign"));
    }
    let file = toml::Deserializer::parse(&text).map_err(unread)?;
    strict::from_deserializer(file).map_err(|error| unread(error.into_inner()))
}

/// Where a number with a plus sign stands.
fn with_plus(value: &Spanned<DeValue<'_>>, text: &str) -> Option<Range<usize>> {
    match value.get_ref() {
        DeValue::Integer(_) | DeValue::Float(_) => {
            let has_plus = text.get(value.span()).is_some_and(|number| number.starts_with('+'));
            has_plus.then(|| value.span())
        }
        DeValue::Array(values) => values.iter().find_map(|value| with_plus(value, text)),
        DeValue::Table(table) => table.values().find_map(|value| with_plus(value, text)),
        _ => None,
    }
}

fn unreadable(file: &Path, error: &io::Error) -> Failure {
    let (code, hint) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorCode::NotFound, "check its name"),
        io::ErrorKind::PermissionDenied => (ErrorCode::NotPermitted, "make it readable, or run as root"),
        io::ErrorKind::InvalidData => (ErrorCode::Invalid, "a lab file is text in UTF-8"),
        _ => (ErrorCode::Invalid, "give a readable file"),
    };
    ApiError::new(code, format!("lab file {}", file.display()), error.to_string())
        .hint(hint)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(text: &str) -> Result<Lab, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_lab(file.path()).map_err(|failure| match failure {
            Failure::Error { error, exit: 2 } => error.to_string().replace(&file.path().display().to_string(), "F"),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn what_is_exported_can_be_applied() {
        let mut wanted: Lab = serde_json::from_value(serde_json::json!({
            "switches": [{"name": "main"}, {"name": "lab", "reserved_multicast": "all"}],
            "namespaces": ["red", "blue"],
            "ports": [{
                "name": "red", "kind": "tap", "mac": "02:00:00:00:00:01", "addresses": ["10.0.0.1/24", "fd00::1/64"],
                "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.254"}, {"to": "10.1.0.0/16"}], "offload": false
            }],
            "cables": [{
                "a": {"namespace": "red", "routes": [{"to": "10.2.0.0/16"}]},
                "b": {"namespace": "blue", "ifname": "x"},
                "mtu": 9000
            }]
        }))
        .unwrap();
        assert_eq!(lab(&toml::to_string_pretty(&wanted).unwrap()), Ok(wanted.clone()));
        wanted = Lab::default();
        assert_eq!(lab(&toml::to_string_pretty(&wanted).unwrap()), Ok(wanted));
    }

    /// `mtu = +1400` is a number to TOML (faults A6).
    #[test]
    fn a_number_in_a_file_has_no_sign() {
        for (text, line) in [
            ("ports = [{ name = \"red\", mtu = +1400 }]", 1),
            ("[[ports]]\nname = \"red\"\nvlan = { access = +10 }", 3),
            ("[[ports]]\nname = \"red\"\n[ports.impair.out]\nloss = +0.01", 4),
            ("[[switches]]\nname = \"main\"\nrspan_vlans = [\n998,\n+999]", 5),
        ] {
            let error = lab(text).unwrap_err();
            assert!(
                error.starts_with(&format!("lab file F line {line}: a number has no sign in")),
                "{error}"
            );
        }
        assert!(lab("[[ports]]\nname = \"a+5\"").is_ok());
    }

    /// serde takes an array for a struct, so `["red"]` was a port of this name.
    #[test]
    fn a_list_is_no_port() {
        let error = lab("ports = [[\"red\"]]\n").unwrap_err();
        assert!(
            error.contains("line 1") && error.contains("expected an object"),
            "{error}"
        );
    }

    #[test]
    fn an_error_tells_its_line() {
        let error = lab("namespaces = [\"red\"]\n\n[[ports]]\nname = \"red\"\nvlan_id = 3\n").unwrap_err();
        assert!(
            error.starts_with("lab file F line 5: unknown field `vlan_id`"),
            "{error}"
        );
        let error = lab("[[ports]]\nname = \"red\"\naddresses = [\"10.0.0.1\"]\n").unwrap_err();
        assert!(
            error.contains("line 3: address 10.0.0.1 has no prefix length"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}
