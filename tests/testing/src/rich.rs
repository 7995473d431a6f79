//! A lab that has a bit of everything.

use vswitch_api::lab::Lab as Wanted;

use crate::http::request;
use crate::lab::Lab;

/// Such a lab, made.
#[track_caller]
pub fn rich() -> Lab {
    let lab = Lab::new();
    let file = lab.lab_file(include_str!("rich.toml"));
    lab.ok(&format!("apply {file}"));
    lab
}

/// The lab that is wanted, as the daemon has it.
#[track_caller]
pub fn wanted() -> Wanted {
    serde_json::from_value(request("GET", "/v1/lab", "").json()).unwrap()
}
