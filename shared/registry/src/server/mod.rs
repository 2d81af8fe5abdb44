//! The embedded registry's HTTP interface (distribution spec 1.1).

mod answer;
mod pull;
mod push;
mod route;
mod sessions;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::Response,
    routing::any,
};

use self::{
    answer::{Code, Failure},
    route::Route,
    sessions::Sessions,
};
use crate::{Credentials, ImmutableTags, Layouts};

/// What a [`router`] allows.
#[derive(Debug, Clone)]
pub struct RouterOptions {
    /// Whether clients may push; refused as `DENIED` otherwise.
    pub push: bool,
    /// Whether clients may delete; refused as `UNSUPPORTED` otherwise.
    pub delete: bool,
    /// Which tags a push may not move; refused as `TAG_INVALID`, as ECR does.
    pub immutable_tags: ImmutableTags,
    /// Who may push and delete; none lets everyone who reaches the server.
    pub credentials: Option<Credentials>,
    /// Whether pulling works without these credentials.
    pub anonymous_pull: bool,
    /// The largest blob accepted, in bytes.
    pub max_blob: u64,
    /// The most uploads under way at once.
    pub max_uploads: usize,
    /// How long an upload may rest before it is given up.
    pub upload_lifetime: Duration,
}

impl Default for RouterOptions {
    /// Pulls for everybody, no pushes, no deletes.
    fn default() -> Self {
        Self {
            push: false,
            delete: false,
            immutable_tags: ImmutableTags::none(),
            credentials: None,
            anonymous_pull: true,
            max_blob: 20 << 30,
            max_uploads: 256,
            upload_lifetime: Duration::from_secs(3600),
        }
    }
}

struct Server {
    layouts: Layouts,
    options: RouterOptions,
    sessions: Sessions,
}

/// A request apart from its body.
struct Asked {
    method: Method,
    query: Vec<(String, String)>,
    headers: HeaderMap,
}

impl Asked {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }
}

/// The routes `/v2/...` of the registry under `layouts`.
pub fn router(layouts: Layouts, options: RouterOptions) -> Router {
    let sessions = Sessions::new(options.max_uploads, options.upload_lifetime);
    let server = Arc::new(Server { layouts, options, sessions });
    Router::new().route("/v2", any(base)).route("/v2/", any(base)).route("/v2/{*path}", any(handle)).with_state(server)
}

async fn base(State(server): State<Arc<Server>>, request: Request) -> Response {
    respond(&server, "", None, request).await
}

async fn handle(
    State(server): State<Arc<Server>>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    respond(&server, &path, query, request).await
}

async fn respond(server: &Server, path: &str, query: Option<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let asked = Asked {
        method: parts.method,
        query: route::query(query.as_deref().unwrap_or_default()),
        headers: parts.headers,
    };
    let mut response = match server.serve(path, &asked, body).await {
        Ok(response) => response,
        Err(failure) => {
            if failure.status().is_server_error() {
                tracing::error!(method = %asked.method, path, error = %failure, "registry request failed");
            }
            failure.into_response(asked.is_head())
        }
    };
    response.headers_mut().insert("docker-distribution-api-version", header::HeaderValue::from_static("registry/2.0"));
    response
}

impl Server {
    async fn serve(&self, path: &str, asked: &Asked, body: Body) -> Result<Response, Failure> {
        let route = Route::parse(path)?;
        let method = &asked.method;
        let reads = [Method::GET, Method::HEAD].contains(method);
        let uploads = matches!(route, Route::Uploads(_) | Route::Upload(..));
        let pulls = reads && !uploads;
        self.authorize(asked, pulls)?;
        if !pulls {
            self.may_write(method, &route)?;
        }
        match (route, method) {
            (Route::Base, &Method::GET | &Method::HEAD) => {
                answer::json(StatusCode::OK, "application/json", &serde_json::json!({}))
            }
            (Route::Catalog, &Method::GET) => self.catalog(asked).await,
            (Route::Tags(name), &Method::GET) => self.tags(&name, asked).await,
            (Route::Referrers(name, digest), &Method::GET) => self.referrers(&name, digest, asked).await,
            (Route::Manifest(name, reference), &Method::GET | &Method::HEAD) => {
                self.get_manifest(&name, &reference, asked).await
            }
            (Route::Manifest(name, reference), &Method::PUT) => self.put_manifest(&name, reference, asked, body).await,
            (Route::Manifest(name, reference), &Method::DELETE) => self.delete_manifest(&name, &reference).await,
            (Route::Blob(name, digest), &Method::GET | &Method::HEAD) => self.get_blob(&name, digest, asked).await,
            (Route::Blob(name, digest), &Method::DELETE) => self.delete_blob(&name, digest).await,
            (Route::Uploads(name), &Method::POST) => self.begin_upload(&name, asked, body).await,
            (Route::Upload(name, id), &Method::GET) => self.upload_status(&name, &id).await,
            (Route::Upload(name, id), &Method::PATCH) => self.continue_upload(&name, &id, asked, body).await,
            (Route::Upload(name, id), &Method::PUT) => self.end_upload(&name, &id, asked, body).await,
            (Route::Upload(name, id), &Method::DELETE) => self.cancel_upload(&name, &id).await,
            _ => Err(Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                Code::Unsupported,
                format!("{method} is not for this address"),
            )),
        }
    }

    fn authorize(&self, asked: &Asked, pull: bool) -> Result<(), Failure> {
        let Some(credentials) = &self.options.credentials else { return Ok(()) };
        let given = asked.header(header::AUTHORIZATION);
        // Digests are compared, so that the time taken tells nothing about the password.
        let good = given.is_some_and(|given| {
            sign::Digest::of(given.as_bytes()) == sign::Digest::of(credentials.basic().as_bytes())
        });
        if good || (given.is_none() && pull && self.options.anonymous_pull) {
            return Ok(());
        }
        Err(Failure::new(
            StatusCode::UNAUTHORIZED,
            Code::Unauthorized,
            if given.is_some() { "wrong user or password" } else { "user and password needed" },
        )
        .with_header(header::WWW_AUTHENTICATE, r#"Basic realm="minimill""#))
    }

    fn may_write(&self, method: &Method, route: &Route) -> Result<(), Failure> {
        let upload = matches!(route, Route::Uploads(_) | Route::Upload(..));
        if method == Method::DELETE && !upload {
            return if self.options.delete {
                Ok(())
            } else {
                Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, "this registry does not delete"))
            };
        }
        if self.options.push {
            Ok(())
        } else {
            Err(Failure::new(StatusCode::FORBIDDEN, Code::Denied, "this registry takes no pushes"))
        }
    }
}
