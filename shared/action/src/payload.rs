use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The body's media type: a CloudEvents event in structured JSON.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";
/// `data.version`. Fields are added under the same version; a change of one raises it.
pub const PAYLOAD_VERSION: u32 = 1;

const TYPE_PREFIX: &str = "io.github.minimill.";
const LONGEST_TEXT: usize = 4_096;

/// What is told of an event.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The delivery's id.
    pub id: &'a str,
    /// The factory.
    pub source: &'a str,
    /// Kind, such as `image.published`.
    pub kind: &'a str,
    /// Package or image.
    pub subject: &'a str,
    /// When it happened.
    pub time: Timestamp,
    /// A sentence; the first 4,096 characters are sent.
    pub text: &'a str,
    /// What programs want to know of it.
    pub facts: &'a Map<String, Value>,
}

/// The body, a CloudEvents 1.0 event in structured JSON (section 3 of its JSON format).
pub fn body(event: &Event<'_>) -> String {
    let text: String = event.text.chars().take(LONGEST_TEXT).collect();
    json!({
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": format!("{TYPE_PREFIX}{}", event.kind),
        "subject": event.subject,
        "time": event.time,
        "datacontenttype": "application/json",
        "data": {
            "version": PAYLOAD_VERSION,
            "kind": event.kind,
            "subject": event.subject,
            "text": text,
            "facts": event.facts,
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_every_documented_field_and_nothing_else() {
        let mut facts = Map::new();
        facts.insert("digest".to_owned(), "sha256:00".into());
        let text = "x\"\r\n".repeat(5_000);
        let event = Event {
            id: "msg_1",
            source: "minimill",
            kind: "image.published",
            subject: "redis:8.2",
            time: "2026-03-04T06:00:00Z".parse().unwrap(),
            text: &text,
            facts: &facts,
        };
        let mut value: Value = serde_json::from_str(&body(&event)).unwrap();
        let sent = value["data"]["text"].take();
        assert_eq!(sent.as_str().unwrap().chars().count(), LONGEST_TEXT);
        let expected = json!({
            "specversion": "1.0",
            "id": "msg_1",
            "source": "minimill",
            "type": "io.github.minimill.image.published",
            "subject": "redis:8.2",
            "time": "2026-03-04T06:00:00Z",
            "datacontenttype": "application/json",
            "data": {
                "version": 1,
                "kind": "image.published",
                "subject": "redis:8.2",
                "text": null,
                "facts": { "digest": "sha256:00" },
            },
        });
        assert_eq!(value, expected);
    }
}
