//! Where payloads are written: at the end of a vector, or into memory that is already there.

/// Where a payload is written: bytes are appended.
pub(crate) trait Out {
    /// Bytes so far.
    fn len(&self) -> usize;
    /// Appends `bytes` zeroes, and gives them out.
    fn grow(&mut self, bytes: usize) -> &mut [u8];
    /// Appends one byte.
    fn push(&mut self, byte: u8);
    /// Appends some bytes.
    fn extend_from_slice(&mut self, bytes: &[u8]);
}

impl Out for Vec<u8> {
    fn len(&self) -> usize {
        self.len()
    }

    fn grow(&mut self, bytes: usize) -> &mut [u8] {
        let start = self.len();
        self.resize(start + bytes, 0);
        &mut self[start..]
    }

    fn push(&mut self, byte: u8) {
        self.push(byte);
    }

    fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Memory that a payload is written into, for who must not allocate.
pub(crate) struct Fixed<'a> {
    memory: &'a mut [u8],
    len: usize,
}

impl<'a> Fixed<'a> {
    /// Empty. A payload of at most `bytes_max` bytes takes up to [`super::GROUP_BYTES_MAX`] more
    /// before it is given up.
    pub(crate) fn new(memory: &'a mut [u8]) -> Self {
        Self { memory, len: 0 }
    }

    /// What was written.
    pub(crate) fn written(self) -> &'a [u8] {
        &self.memory[..self.len]
    }
}

impl Out for Fixed<'_> {
    fn len(&self) -> usize {
        self.len
    }

    fn grow(&mut self, bytes: usize) -> &mut [u8] {
        let grown = &mut self.memory[self.len..][..bytes];
        self.len += bytes;
        grown.fill(0);
        grown
    }

    fn push(&mut self, byte: u8) {
        self.extend_from_slice(&[byte]);
    }

    fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.memory[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}
