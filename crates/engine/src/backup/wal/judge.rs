//! A file and its line in the index, format 1: where they disagree, which of them is damaged.

use std::io;

use super::{
    Index,
    held::{Held, Sum},
    offered::compress_again,
};
use crate::backup::{BackupError, hash::sha256_file};
use cdc_model::units::SystemId;

impl Held {
    /// Looks at a file with its index. `Some` says what is wrong with the index, an error what is wrong with the file.
    pub(crate) fn judged_by_index(
        &self,
        system_id: SystemId,
        deep: bool,
        index: &Index,
    ) -> Result<Option<String>, BackupError> {
        let Sum::Line(line) = &self.sum else {
            return match index.is_damaged() && self.inspect_content(system_id).is_ok() {
                true => Ok(Some(format!("no line for {}", self.file))),
                false => Err(BackupError::checksum(&self.path, "a line in index.jsonl", "none")),
            };
        };
        let wrong_name = line.wrong_name(&self.file);
        if !deep && wrong_name.is_none() && self.check_size().is_ok() {
            return Ok(None);
        }
        let (stored, size) = sha256_file(&self.path)?;
        let content = self.inspect_content(system_id).ok();
        let size_raw = match content {
            Some(_) => self.decode_into(&mut io::sink())?.1,
            None => 0,
        };
        let stored_agrees = stored == line.sha256;
        let content_agrees = content.as_deref() == Some(line.sha256_raw.as_str());
        let wrong = match (stored_agrees, content_agrees) {
            (true, true) if size != line.size || size_raw != line.size_raw => Some("a size that is not the file's"),
            (true, true) if wrong_name.is_some() => Some("a name or a position that is not the file's"),
            (true, true) => None,
            // The file is what was stored, and decompresses to the segment of its name.
            (true, false) if content.is_some() => Some("a checksum that is not the content's"),
            // Decompression passes over a few bits. What was written once can be written again.
            (false, true) if compress_again(self)? != line.sha256 => Some("a checksum that is not the file's"),
            _ => return Err(BackupError::checksum(&self.path, &line.sha256, stored)),
        };
        Ok(wrong.map(|wrong| format!("a line for {} with {wrong}", self.file)))
    }
}
