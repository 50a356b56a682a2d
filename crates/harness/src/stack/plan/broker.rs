//! Brokers, as data.

/// One broker of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Broker<'a> {
    /// Its number, from 1.
    pub node: u16,
    /// Where it listens.
    pub port: u16,
    /// Where the first one listens as the controller.
    pub controller_port: u16,
    /// The cluster's id.
    pub cluster: &'a str,
}

/// The first of several servers has the plain name.
pub(in crate::stack) fn numbered(name: &str, number: u16) -> String {
    if number == 1 { name.to_owned() } else { format!("{name}-{number}") }
}

/// A random id as Kafka writes it: 16 bytes in URL-safe base64. One that begins with a dash would be an option to its tools.
pub(in crate::stack) fn kafka_uuid() -> String {
    use base64::Engine;
    loop {
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        if !text.starts_with('-') {
            return text;
        }
    }
}
