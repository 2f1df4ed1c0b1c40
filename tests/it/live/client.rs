//! A client of live sessions.

use std::time::Duration;

use axum::http::{HeaderValue, header};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::service::Service;

const PATIENCE: Duration = Duration::from_secs(60);

/// An open session.
pub struct Client(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

/// The message with a picture that was taken at this time.
pub fn picture(at_s: f64, file: &[u8]) -> Message {
    capture(1, at_s, file)
}

/// The message with sound that begins at this time.
pub fn sound(at_s: f64, samples: &[u8]) -> Message {
    capture(2, at_s, samples)
}

pub fn capture(kind: u8, at_s: f64, content: &[u8]) -> Message {
    Message::binary([&[kind][..], &at_s.to_be_bytes(), content].concat())
}

impl Client {
    pub async fn open(service: &Service) -> Self {
        Self::open_with(service, &[]).await.unwrap()
    }

    /// Opens a session with these headers. Returns the status and the body of the answer if it is refused.
    pub async fn open_with(service: &Service, headers: &[(header::HeaderName, &str)]) -> Result<Self, (u16, Value)> {
        let mut request = format!("ws://{}/v1/live", service.address()).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                Err((answer.status().as_u16(), serde_json::from_slice(body).unwrap_or_default()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn send(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    /// The next answer.
    pub async fn next(&mut self) -> Value {
        let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("no answer");
        match next.expect("the connection was closed").unwrap() {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub async fn configure(&mut self, mut options: Value) -> Value {
        options["type"] = json!("configure");
        self.send(options.to_string().into()).await;
        let answer = self.next().await;
        assert_eq!(answer["type"], "configured", "{answer}");
        answer
    }

    pub async fn finish(&mut self) -> Value {
        self.send(json!({"type": "finish"}).to_string().into()).await;
        let answer = self.next().await;
        assert_eq!(answer["type"], "finished", "{answer}");
        answer
    }

    /// Sends a message that must be refused, and returns the problem.
    pub async fn refused(&mut self, message: Message, code: &str) -> Value {
        self.send(message).await;
        let answer = self.next().await;
        assert_eq!((&answer["type"], &answer["problem"]["code"]), (&json!("error"), &json!(code)), "{answer}");
        answer
    }

    /// Waits until the service closes the connection. Returns its code.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("the connection stays open") {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}
