//! What a user says of a port, switch or command.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::InvalidValue;

/// Longest description, in characters.
pub const MAX_DESCRIPTION: usize = 255;

/// What the user says of something: text of up to 255 characters, none of them a control character. Empty: nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, max_length = 255, example = "uplink to the second floor")]
pub struct Description(String);

impl Description {
    /// Nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Description {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let length = text.chars().count();
        if length > MAX_DESCRIPTION {
            return Err(InvalidValue::new(format!(
                "a description of {length} characters is too long; at most {MAX_DESCRIPTION} are allowed"
            )));
        }
        match text.chars().find(|c| c.is_control()) {
            Some(c) => Err(InvalidValue::new(format!(
                "description {text:?} contains the control character {c:?}; write it as one line of plain text"
            ))),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Description {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<Description> for String {
    fn from(description: Description) -> Self {
        description.0
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Port;

    #[test]
    fn a_description_is_a_line_of_text() {
        for text in ["", "the red one", "größer \"als\" 5", &"ä".repeat(255)] {
            let port: Port = serde_json::from_value(serde_json::json!({"name": "red", "description": text})).unwrap();
            assert_eq!(port.description.to_string(), text);
            assert_eq!(
                serde_json::to_string(&port).unwrap().contains("description"),
                !text.is_empty()
            );
        }
        for (text, part) in [
            (&*"ä".repeat(256), "256 characters"),
            ("a\nb", "control"),
            ("a\u{1b}[31mb", "control"),
        ] {
            let error = text.parse::<Description>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
