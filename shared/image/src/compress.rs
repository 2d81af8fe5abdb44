use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use libdeflater::{CompressionLvl, Compressor};
use recipe::LayerCompression;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::digest::{Hashing, sha256_text};

/// Its output is smaller than `gzip -6` gives, in a quarter of the time.
const GZIP_LEVEL: i32 = 5;
const GZIP_BLOCK: usize = 1 << 20;
const ZSTD_LEVEL: i32 = 3;
/// Frames know nothing of each other, so small ones cost size.
const ZSTD_BLOCK: usize = 4 << 20;
/// No name, no time, an unknown system (RFC 1952, 2.3).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// More workers than this make a layer wait for its disk.
const MOST_WORKERS: usize = 16;

/// How layers are compressed.
///
/// Either way a layer is cut into blocks of a fixed size that are compressed each by itself, as
/// members of one gzip file (RFC 1952, 2.2) or frames of one zstd file (RFC 8878, 3). So its bytes
/// do not depend on how many threads compress it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// `application/vnd.oci.image.layer.v1.tar+gzip`.
    #[default]
    Gzip,
    /// `application/vnd.oci.image.layer.v1.tar+zstd`, for clients that read OCI 1.1.
    Zstd,
}

impl From<LayerCompression> for Compression {
    fn from(compression: LayerCompression) -> Self {
        match compression {
            LayerCompression::Gzip => Self::Gzip,
            LayerCompression::Zstd => Self::Zstd,
        }
    }
}

impl Compression {
    fn block(self) -> usize {
        match self {
            Self::Gzip => GZIP_BLOCK,
            Self::Zstd => ZSTD_BLOCK,
        }
    }

    /// What the bytes of a layer depend on beside the tar stream.
    pub(crate) fn identity(self) -> String {
        match self {
            Self::Gzip => format!("gzip {GZIP_LEVEL} {GZIP_BLOCK}"),
            Self::Zstd => format!("zstd {ZSTD_LEVEL} {ZSTD_BLOCK}"),
        }
    }
}

/// What compressing a stream gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compressed {
    /// `sha256:HEX` of the compressed bytes.
    pub digest: String,
    /// How many they are.
    pub size: u64,
    /// `sha256:HEX` of the bytes before compression.
    pub diff_id: String,
}

/// Compresses what `fill` writes and passes it on to `into`, which is returned.
///
/// Blocks are compressed on every processor and hashed on a thread of their own, while `fill` and
/// the writing to `into` go on in the calling thread. A few blocks per processor are in memory at
/// once, however long the stream is.
pub(crate) fn compress<W: Write>(
    into: W,
    compression: Compression,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<(W, Compressed), Error> {
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_WORKERS);
    compress_with(workers, into, compression, fill)
}

fn compress_with<W: Write>(
    workers: usize,
    into: W,
    compression: Compression,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<(W, Compressed), Error> {
    let failed = || Error::write("layer");
    thread::scope(|scope| {
        let (jobs, queue) = sync_channel::<Job>(workers);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..workers {
            let queue = Arc::clone(&queue);
            scope.spawn(move || work(&queue, compression));
        }
        drop(queue);
        let (hashed, to_hash) = sync_channel::<Arc<Vec<u8>>>(workers);
        let hasher = scope.spawn(move || {
            let mut sha256 = Sha256::new();
            while let Ok(block) = to_hash.recv() {
                sha256.update(block.as_slice());
            }
            sha256_text(sha256)
        });
        let mut pipe = Pipe {
            block: Vec::with_capacity(compression.block()),
            capacity: compression.block(),
            jobs,
            hashed,
            pending: VecDeque::new(),
            limit: 2 * workers,
            into: Hashing::new(into),
        };
        fill(&mut pipe)?;
        let into = pipe.finish().map_err(failed())?;
        let diff_id = hasher.join().map_err(|_| ended("hashing")).map_err(failed())?;
        let (into, sha256, size) = into.finish();
        Ok((into, Compressed { digest: sha256_text(sha256), size, diff_id }))
    })
}

struct Job {
    block: Arc<Vec<u8>>,
    done: SyncSender<io::Result<Vec<u8>>>,
}

/// Compresses blocks until there are no more, or nobody wants them.
fn work(queue: &Mutex<Receiver<Job>>, compression: Compression) {
    let mut encoder = Encoder::new(compression);
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        let compressed = match &mut encoder {
            Ok(encoder) => encoder.encode(&job.block),
            Err(error) => Err(io::Error::other(error.to_string())),
        };
        // Nobody waits for it after a failure elsewhere.
        let _ = job.done.send(compressed);
    }
}

enum Encoder {
    Gzip(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    fn new(compression: Compression) -> io::Result<Self> {
        match compression {
            Compression::Gzip => {
                let level = CompressionLvl::new(GZIP_LEVEL).map_err(|error| io::Error::other(format!("{error:?}")))?;
                Ok(Self::Gzip(Compressor::new(level)))
            }
            Compression::Zstd => {
                let mut encoder = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Ok(Self::Zstd(encoder))
            }
        }
    }

    fn encode(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd(encoder) => encoder.compress(block),
            Self::Gzip(encoder) => {
                let mut member = GZIP_HEADER.to_vec();
                let start = member.len();
                member.resize(start + encoder.deflate_compress_bound(block.len()), 0);
                let room = member.get_mut(start..).unwrap_or_default();
                let length =
                    encoder.deflate_compress(block, room).map_err(|error| io::Error::other(error.to_string()))?;
                member.truncate(start + length);
                member.extend_from_slice(&libdeflater::crc32(block).to_le_bytes());
                // A block is far below the 4 GiB at which this field wraps.
                member.extend_from_slice(&u32::try_from(block.len()).unwrap_or(u32::MAX).to_le_bytes());
                Ok(member)
            }
        }
    }
}

/// Cuts what is written into blocks, and writes the compressed ones in their order.
struct Pipe<W: Write> {
    block: Vec<u8>,
    capacity: usize,
    jobs: SyncSender<Job>,
    hashed: SyncSender<Arc<Vec<u8>>>,
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    limit: usize,
    into: Hashing<W>,
}

impl<W: Write> Pipe<W> {
    fn hand_out(&mut self) -> io::Result<()> {
        while self.pending.len() >= self.limit {
            self.take_back()?;
        }
        let block = Arc::new(std::mem::replace(&mut self.block, Vec::with_capacity(self.capacity)));
        let (done, result) = sync_channel(1);
        self.hashed.send(Arc::clone(&block)).map_err(|_| ended("hashing"))?;
        self.jobs.send(Job { block, done }).map_err(|_| ended("compressing"))?;
        self.pending.push_back(result);
        Ok(())
    }

    fn take_back(&mut self) -> io::Result<()> {
        if let Some(result) = self.pending.pop_front() {
            let compressed = result.recv().map_err(|_| ended("compressing"))??;
            self.into.write_all(&compressed)?;
        }
        Ok(())
    }

    /// Writes what is left. The workers end when this returns, since nobody can send to them.
    fn finish(mut self) -> io::Result<Hashing<W>> {
        if !self.block.is_empty() {
            self.hand_out()?;
        }
        while !self.pending.is_empty() {
            self.take_back()?;
        }
        self.into.flush()?;
        Ok(self.into)
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.capacity - self.block.len();
        let (now, _) = bytes.split_at(bytes.len().min(room));
        self.block.extend_from_slice(now);
        if self.block.len() == self.capacity {
            self.hand_out()?;
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn ended(what: &str) -> io::Error {
    io::Error::other(format!("the thread that does the {what} ended early"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn sample() -> Vec<u8> {
        (0..9_500_000_u32).map(|number| ((number / 7).wrapping_mul(2_654_435_761) >> 20) as u8).collect()
    }

    fn compressed(workers: usize, compression: Compression, pieces: usize) -> (Vec<u8>, Compressed) {
        let sample = sample();
        compress_with(workers, Vec::new(), compression, |into| {
            for piece in sample.chunks(pieces) {
                into.write_all(piece).map_err(Error::write("sample"))?;
            }
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn bytes_do_not_depend_on_threads_or_on_how_they_were_written() {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let (bytes, facts) = compressed(1, compression, 1 << 20);
            for (workers, pieces) in [(2, 512), (7, 3_000_000), (2, 9_500_000)] {
                assert!((bytes.clone(), facts.clone()) == compressed(workers, compression, pieces));
            }
            let mut read = Vec::new();
            match compression {
                Compression::Gzip => {
                    flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut read).unwrap();
                }
                Compression::Zstd => read = zstd::decode_all(bytes.as_slice()).unwrap(),
            }
            assert!(read == sample());
            let digest = |bytes: &[u8]| sha256_text(Sha256::new_with_prefix(bytes));
            assert_eq!(facts, Compressed { digest: digest(&bytes), size: bytes.len() as u64, diff_id: digest(&read) });
        }
    }

    #[test]
    fn a_failure_of_either_end_is_the_result_and_no_thread_stays() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let fill = |into: &mut dyn Write| into.write_all(&sample()).map_err(Error::write("sample"));
        let error = compress_with(2, Full, Compression::Gzip, fill).map(|_| ()).unwrap_err();
        assert!(matches!(&error, Error::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull));
        let source = || Err(Error::write("source")(io::ErrorKind::UnexpectedEof.into()));
        let error = compress_with(2, Vec::new(), Compression::Zstd, |_| source()).map(|_| ()).unwrap_err();
        assert!(matches!(&error, Error::Write { what, .. } if what == "source"));
    }
}
