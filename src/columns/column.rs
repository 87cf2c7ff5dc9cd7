//! What a column is: a name, the size of an element, and the lanes that it is packed by.

use super::error::ColumnsFault;
use plimsoll_swap::codec::LaneSpec;

/// Most raw bytes of a block that a file may have, and so of an element: a reader takes memory for
/// two blocks.
pub const BLOCK_BYTES_MAX: usize = 4 << 20;

/// Most bytes of a name.
const NAME_BYTES_MAX: usize = 255;

/// A column: its name, the bytes of an element, and how elements are packed.
///
/// Holding one proves that the name has 1 to 255 bytes without control characters, and an element 1
/// byte to 4 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    name: String,
    element_bytes: u32,
    lanes: LaneSpec,
}

impl Column {
    /// Describes a column whose elements have `element_bytes` bytes and are packed as `lanes`.
    /// Wrong lanes cost ratio, never a bit; an element may have several.
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::Columns`] for a name or a size that the format cannot keep.
    pub fn new(
        name: impl Into<String>,
        element_bytes: usize,
        lanes: LaneSpec,
    ) -> Result<Self, ColumnsFault> {
        let name = name.into();
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(ColumnsFault::Columns { why: "a name has 1 to 255 bytes" });
        }
        if name.chars().any(char::is_control) {
            return Err(ColumnsFault::Columns { why: "a name has no control characters" });
        }
        match u32::try_from(element_bytes) {
            Ok(bytes @ 1..) if element_bytes <= BLOCK_BYTES_MAX => {
                Ok(Self { name, element_bytes: bytes, lanes })
            }
            _ => Err(ColumnsFault::Columns { why: "an element has 1 byte to 4 MiB" }),
        }
    }

    /// Describes a column of little-endian integers of `element_bytes` bytes: 1, 2, 4, 8 and 32 are
    /// packed by their values, others as bytes.
    ///
    /// # Errors
    ///
    /// As [`Column::new`].
    pub fn integers(name: impl Into<String>, element_bytes: usize) -> Result<Self, ColumnsFault> {
        let lanes = match element_bytes {
            1 => LaneSpec::U8,
            2 => LaneSpec::U16,
            4 => LaneSpec::U32,
            8 => LaneSpec::U64,
            32 => LaneSpec::U256,
            _ => LaneSpec::Bytes,
        };
        Self::new(name, element_bytes, lanes)
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the bytes of an element.
    #[must_use]
    pub fn element_bytes(&self) -> usize {
        self.element_bytes as usize
    }

    /// Returns how elements are packed.
    #[must_use]
    pub fn lanes(&self) -> LaneSpec {
        self.lanes
    }
}
