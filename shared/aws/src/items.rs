//! The attributes of the table's items.

use std::collections::HashMap;
use std::str::FromStr;

use aws_sdk_dynamodb::types::AttributeValue;
use ports::{Blobs, Digest, Key, PortError};
use serde::de::DeserializeOwned;

use crate::error::malformed;

pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) const PARTITION: &str = "pk";
pub(crate) const SORT: &str = "sk";

/// What an item holds itself, in bytes. DynamoDB's limit is 400 KB for an item with all its names.
const INLINE_BYTES: usize = 300_000;

/// The largest content that an item refers to, in bytes.
pub(crate) const CONTENT_BYTES: u64 = 256 << 20;

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// The primary key of an item.
pub(crate) fn key(partition: &str, sort: &str) -> Item {
    Item::from([(PARTITION.to_owned(), text(partition)), (SORT.to_owned(), text(sort))])
}

pub(crate) fn get_text<'i>(item: &'i Item, name: &str) -> Option<&'i str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

pub(crate) fn get_number<N: FromStr>(item: &Item, name: &'static str) -> Result<Option<N>, PortError> {
    let Some(value) = item.get(name) else { return Ok(None) };
    let parsed = value.as_n().ok().and_then(|digits| digits.parse().ok());
    match parsed {
        Some(number) => Ok(Some(number)),
        None => Err(malformed("DynamoDB", "item", format!("attribute `{name}` is no number in range: {value:?}"))),
    }
}

/// The content of an item.
pub(crate) const BODY: &str = "body";

/// The digest of the blob that has it, where it is too large for an item.
pub(crate) const BODY_DIGEST: &str = "body_digest";

/// The attribute that holds `json`, and the name of the other one.
pub(crate) async fn body(
    json: String,
    blobs: &dyn Blobs,
) -> Result<((&'static str, AttributeValue), &'static str), PortError> {
    if json.len() <= INLINE_BYTES {
        return Ok(((BODY, text(json)), BODY_DIGEST));
    }
    let digest = blobs.put(json.into_bytes()).await?;
    Ok(((BODY_DIGEST, text(digest.to_string())), BODY))
}

/// The content that [`body`] kept. `key` names the item in errors.
pub(crate) async fn get_body<T: DeserializeOwned>(item: &Item, key: &Key, blobs: &dyn Blobs) -> Result<T, PortError> {
    let decoded =
        |result: serde_json::Result<T>| result.map_err(|source| PortError::Document { key: key.clone(), source });
    if let Some(json) = get_text(item, BODY) {
        return decoded(serde_json::from_str(json));
    }
    let digest: Digest = get_text(item, BODY_DIGEST).and_then(|digest| digest.parse().ok()).ok_or_else(|| {
        malformed("DynamoDB", "item", format!("`{key}` has neither `{BODY}` nor a digest as `{BODY_DIGEST}`"))
    })?;
    decoded(serde_json::from_slice(&blobs.get(digest, CONTENT_BYTES).await?))
}
