//! Pages of keys and values.

use super::Style;

/// A page under construction: a heading, then lines with aligned keys.
pub struct Page {
    style: Style,
    heading: String,
    lines: Vec<(usize, String, String)>,
}

impl Page {
    /// An empty page.
    pub fn new(style: Style, heading: impl Into<String>) -> Self {
        Self {
            style,
            heading: heading.into(),
            lines: Vec::new(),
        }
    }

    /// A key with its value.
    pub fn line(&mut self, key: &str, value: impl Into<String>) {
        self.lines.push((1, key.to_owned(), value.into()));
    }

    /// The same, as a part of the line before.
    pub fn part(&mut self, key: &str, value: impl Into<String>) {
        self.lines.push((2, key.to_owned(), value.into()));
    }

    /// A key with several values, one a line; nothing if there is none.
    pub fn list<T: ToString>(&mut self, key: &str, values: impl IntoIterator<Item = T>) {
        for (i, value) in values.into_iter().enumerate() {
            self.line(if i == 0 { key } else { "" }, value.to_string());
        }
    }

    /// The text, every line ended.
    pub fn render(&self) -> String {
        let width = self
            .lines
            .iter()
            .map(|(depth, key, _)| 2 * depth + key.len())
            .max()
            .unwrap_or(0);
        let mut text = self.style.bold(&self.heading) + "\n";
        for (depth, key, value) in &self.lines {
            let key = format!("{:indent$}{key}", "", indent = 2 * depth);
            text += format!("{key:width$}  {value}").trim_end();
            text.push('\n');
        }
        text
    }
}
