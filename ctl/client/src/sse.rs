//! Server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation>.
//! Of their fields only `data` matters here, as the API repeats the name of an event inside its data.

/// Takes bytes as they come and gives the data of each complete event.
#[derive(Debug, Default)]
pub struct Parser {
    /// The line that has no end yet.
    line: Vec<u8>,
    /// Data lines of the event that has no end yet.
    data: Vec<String>,
}

impl Parser {
    /// Data of the events that end within these bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut events = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                if !self.data.is_empty() {
                    events.push(std::mem::take(&mut self.data).join("\n"));
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data.push(data.strip_prefix(' ').unwrap_or(data).to_owned());
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn comments_and_other_fields_are_passed_over() {
        let mut parser = Parser::default();
        let text = ": keep-alive\n\nevent: a\nid: 3\ndata: {\"x\":1}\n\ndata:two\r\ndata: lines\r\n\r\ndata: open";
        assert_eq!(parser.feed(text.as_bytes()), [r#"{"x":1}"#, "two\nlines"]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_bytes_are_cut(texts in prop::collection::vec("[a-zé:]{1,9}", 1..6), step in 1usize..9) {
            let stream: String = texts.iter().map(|t| format!("event: x\ndata: {t}\n\n")).collect();
            let mut parser = Parser::default();
            let events: Vec<String> = stream.as_bytes().chunks(step).flat_map(|bytes| parser.feed(bytes)).collect();
            prop_assert_eq!(events, texts);
        }
    }
}
