//! `export` and `lab export`: what there is as a lab file, or into one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use toml_edit::visit_mut::VisitMut;
use toml_edit::{Array, DocumentMut, Formatted, TomlError};
use vswitch_api::{ApiError, ErrorCode, Lab, LabName};

use super::merge::{Merged, merge};
use super::ranges;
use super::read::LabFile;
use crate::cli::lab::{ExportArgs, LabExportArgs};
use crate::commands::Session;
use crate::commands::capture::compile;
use crate::failure::Failure;
use crate::output::tell;

impl Session {
    pub(in crate::commands) async fn export(&self, args: ExportArgs) -> Result<(), Failure> {
        let lab: Lab = self.client.lab().await?;
        let Some(path) = &args.into else {
            return self.print_lab(&lab, &with_short_filters(&lab), None);
        };
        let file = self.read_lab(path)?;
        if let Some(name) = &file.name {
            let cause = "its `name` makes it the file of one lab, and not of all that there is";
            let hint = format!("`vswitchctl lab export {name} --into {}`", path.display());
            return Err(Failure::usage(format!("lab file {}", file.path), cause, hint));
        }
        self.write_into(path, &file, &with_short_filters(&lab), args.print)
    }

    pub(super) async fn export_lab(&self, args: LabExportArgs) -> Result<(), Failure> {
        let there: Lab = self.client.lab().await?;
        let name: &LabName = &args.lab;
        if there.owned_by(name).is_none() {
            return Err(super::files::no_lab(name.as_str(), &there));
        }
        let Some(path) = &args.into else {
            let own = with_short_filters(&own(&there, name, None));
            return self.print_lab(&own, &own, Some(name));
        };
        let file = self.read_lab(path)?;
        if file.lab_name()? != *name {
            let cause = format!("it is the file of lab {}, not of {name}", file.lab_name()?);
            let hint = format!("write `name = \"{name}\"` as its first line if it is to be that");
            return Err(Failure::usage(format!("lab file {}", file.path), cause, hint));
        }
        let own = own(&there, name, Some(&file.lab));
        self.write_into(path, &file, &with_short_filters(&own), args.print)
    }

    fn print_lab(&self, lab: &Lab, written: &Lab, name: Option<&LabName>) -> Result<(), Failure> {
        let text = text_of(written)
            .map_err(|e| ApiError::new(ErrorCode::Internal, "lab", format!("it can't be written as TOML: {e}")))?;
        let head = name.map_or_else(String::new, |name| format!("name = \"{name}\"\n\n"));
        self.out.show(lab, |_| head + &text)
    }

    fn write_into(&self, path: &Path, file: &LabFile, lab: &Lab, print: bool) -> Result<(), Failure> {
        let Merged { text, notes } = merge(file, lab)?;
        if !self.out.json() {
            notes.iter().for_each(|note| tell!("note: {note}"));
        }
        if print {
            return self.out.show(
                &json!({ "file": file.path, "changed": text != file.text(), "text": text, "notes": notes }),
                |_| text.clone(),
            );
        }
        let changed = text != file.text();
        if changed {
            replace(path, &text)?;
        }
        self.out.show(
            &json!({ "file": file.path, "changed": changed, "notes": notes }),
            |_| match changed {
                true => format!("wrote {}\n", file.path),
                false => format!("{} says all that already\n", file.path),
            },
        )
    }
}

/// A lab as a file has it, without lists that have nothing in them; empty if it has nothing at all.
///
/// # Errors
/// It can't be written as TOML: why.
pub(super) fn text_of(lab: &Lab) -> Result<String, String> {
    let text = toml::to_string_pretty(lab).map_err(|error| error.to_string())?;
    let mut file: DocumentMut = text.parse().map_err(|error: TomlError| error.to_string())?;
    file.retain(|_, list| !list.as_array().is_some_and(Array::is_empty));
    WithoutRanges.visit_document_mut(&mut file);
    Ok(file.to_string().trim_start().to_owned())
}

/// What looks like a range of a file is none.
struct WithoutRanges;

impl VisitMut for WithoutRanges {
    fn visit_string_mut(&mut self, node: &mut Formatted<String>) {
        let text = ranges::escaped(node.value());
        if text != *node.value() {
            *node = Formatted::new(text);
        }
    }
}

/// What belongs to a lab, with what its file names besides and shares.
fn own(there: &Lab, name: &LabName, file: Option<&Lab>) -> Lab {
    let mut own = there.clone();
    own.labs.clear();
    let Some(owned) = there.owned_by(name) else { return own };
    let names = |list: &dyn Fn(&Lab) -> bool| file.is_some_and(list);
    own.ports.retain(|port| owned.ports.contains(&port.name));
    own.mirrors.retain(|mirror| owned.mirrors.contains(&mirror.name));
    own.cables
        .retain(|cable| owned.cables.iter().any(|ends| ends.fits(cable)));
    own.switches.retain(|switch| {
        owned.switches.contains(&switch.name)
            || names(&|file| file.switches.iter().any(|said| said.name == switch.name))
            // A file of its own has to name the switches of its ports.
            || file.is_none() && own.ports.iter().any(|port| port.switch == switch.name)
    });
    own.commands.retain(|command| owned.commands.contains(&command.name));
    own.namespaces
        .retain(|one| owned.namespaces.contains(&one.name) || names(&|file| file.namespace(&one.name).is_some()));
    own
}

/// What `apply` makes of an expression again need not stand in the file.
fn with_short_filters(lab: &Lab) -> Lab {
    let mut written = lab.clone();
    for filter in written.mirrors.iter_mut().filter_map(|mirror| mirror.filter.as_mut()) {
        filter
            .program
            .take_if(|program| compile(&filter.expression).is_ok_and(|made| made == *program));
    }
    written
}

/// The whole text or what was there before, with the rights that it had.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e: io::Error| {
        let hint = "nothing was changed; choose a place that can be written to";
        Failure::usage(
            format!("lab file {}", path.display()),
            format!("it can't be written: {e}"),
            hint,
        )
    };
    // A link goes on to lead there.
    let path = fs::canonicalize(path).map_err(failed)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new: PathBuf = path.with_file_name(name);
    let rights = fs::metadata(&path).map_err(failed)?.permissions();
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&new)?;
        file.set_permissions(rights)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    written().map_err(|e| {
        // It may not have been made.
        let _ = fs::remove_file(&new);
        failed(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_with_nothing_in_them_are_left_out_and_texts_stay() {
        let lab: Lab = serde_json::from_value(json!({
            "namespaces": ["red", {"name": "blue", "files": {"motd": "one\n\ncables = []\n[[ports]]\n"}}],
            "ports": [{"name": "red"}],
        }))
        .unwrap();
        let text = text_of(&lab).unwrap();
        assert_eq!(toml::from_str::<Lab>(&text).unwrap(), lab, "{text}");
        assert!(text.starts_with("namespaces = ["), "{text}");
        assert!(!text.contains("switches"), "{text}");
        assert_eq!(text.matches("cables").count(), 1, "{text}");
        assert_eq!(text_of(&Lab::default()).unwrap(), "");
    }
}
