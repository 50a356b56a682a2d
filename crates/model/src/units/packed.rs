//! Bytes in JSON: base64. For `#[serde(with = "packed")]`.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Bytes that are read again from base64.
pub trait Packed: Sized {
    /// What is written, if anything.
    fn bytes(&self) -> Option<&[u8]>;
    /// From what was read; none where there was nothing.
    fn of(bytes: Option<Vec<u8>>) -> Option<Self>;
}

impl Packed for Box<[u8]> {
    fn bytes(&self) -> Option<&[u8]> {
        Some(self)
    }

    fn of(bytes: Option<Vec<u8>>) -> Option<Self> {
        bytes.map(Vec::into)
    }
}

impl Packed for Vec<u8> {
    fn bytes(&self) -> Option<&[u8]> {
        Some(self)
    }

    fn of(bytes: Option<Vec<u8>>) -> Option<Self> {
        bytes
    }
}

impl<P: Packed> Packed for Option<P> {
    fn bytes(&self) -> Option<&[u8]> {
        self.as_ref().and_then(Packed::bytes)
    }

    fn of(bytes: Option<Vec<u8>>) -> Option<Self> {
        Some(bytes.and_then(|bytes| P::of(Some(bytes))))
    }
}

/// Writes bytes, or `null`.
pub fn serialize<P: Packed, S: Serializer>(packed: &P, serializer: S) -> Result<S::Ok, S::Error> {
    packed.bytes().map(|bytes| BASE64.encode(bytes)).serialize(serializer)
}

/// Reads them.
pub fn deserialize<'de, P: Packed, D: Deserializer<'de>>(deserializer: D) -> Result<P, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let bytes = text.map(|text| BASE64.decode(text)).transpose().map_err(D::Error::custom)?;
    P::of(bytes).ok_or_else(|| D::Error::custom("expected base64, found null"))
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[test]
    fn bytes_come_back_and_nothing_stays_nothing() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Held {
            #[serde(with = "super")]
            some: Option<Box<[u8]>>,
            #[serde(with = "super")]
            empty: Option<Vec<u8>>,
            #[serde(with = "super")]
            none: Option<Box<[u8]>>,
            #[serde(with = "super")]
            bytes: Box<[u8]>,
        }
        let held = Held { some: Some([0, 255].into()), empty: Some(vec![]), none: None, bytes: [7].into() };
        let json = serde_json::to_string(&held).unwrap();
        assert_eq!(json, r#"{"some":"AP8","empty":"","none":null,"bytes":"Bw"}"#);
        assert_eq!(serde_json::from_str::<Held>(&json).unwrap(), held);
        assert!(serde_json::from_str::<Held>(&json.replace(r#""Bw""#, "null")).is_err());
    }
}
