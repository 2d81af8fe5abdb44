//! A connection that breaks on demand.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How far a connection gets: bytes from and to the client.
#[derive(Clone, Copy)]
pub struct Limits {
    pub up: u64,
    pub down: u64,
}

pub const UNLIMITED: Limits = Limits { up: u64::MAX, down: u64::MAX };

pub struct Proxy {
    pub address: String,
    pub connections: Arc<AtomicUsize>,
}

/// Forwards to `target`; `limits` says how far each connection gets, counted from 0.
pub async fn proxy(target: String, limits: impl Fn(usize) -> Limits + Send + 'static) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let limits = limits(count.fetch_add(1, Ordering::SeqCst));
            let server = TcpStream::connect(&target).await.unwrap();
            tokio::spawn(async move {
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                // Whichever side ends first takes the other along.
                tokio::select! {
                    () = forward(from_client, to_server, limits.up) => {}
                    () = forward(from_server, to_client, limits.down) => {}
                }
            });
        }
    });
    Proxy { address, connections }
}

async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, limit: u64) {
    let mut left = limit;
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count) = from.read(&mut buffer).await {
        let count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        left -= count as u64;
    }
}
