//! An S3 server in this process.
//!
//! `s3s-fs` stores the objects. This module adds the list of unfinished uploads, which it lacks, and returns listings
//! in pages of [`PAGE`], so that the tests cover paging.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use visage::config;

const BUCKET: &str = "videos";
const PAGE: usize = 2;
const ACCESS_KEY: &str = "AKIAVISAGETEST";
const SECRET_KEY: &str = "test-secret";

/// A running server with one empty bucket. It ends on drop.
pub struct S3Server {
    endpoint: String,
    folder: TempDir,
    uploads: Uploads,
    cors: Arc<Mutex<CorsState>>,
    listing: Arc<Mutex<ListParts>>,
    task: JoinHandle<()>,
}

/// The behaviour of the server when it lists the parts of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListParts {
    #[default]
    Correct,
    NotImplemented,
    NoSuchUpload,
    /// Returns an empty list.
    Nothing,
    /// Returns parts without ETags.
    WithoutTags,
}

/// The CORS rule of the bucket, and the parts that pages have sent.
#[derive(Default)]
struct CorsState {
    /// The origin whose pages may PUT.
    origin: Option<String>,
    /// The number of parts from such pages.
    parts: usize,
}

/// Unfinished uploads by object and id.
type Uploads = Arc<Mutex<BTreeMap<(String, String), SystemTime>>>;

impl S3Server {
    pub async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let uploads = Uploads::default();
        let listing = Arc::<Mutex<ListParts>>::default();
        let backend = Backend {
            fs: FileSystem::new(folder.path()).unwrap(),
            uploads: uploads.clone(),
            listing: listing.clone(),
            tags: Mutex::default(),
        };
        let mut builder = S3ServiceBuilder::new(backend);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let cors = Arc::new(Mutex::new(CorsState::default()));
        let state = cors.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, cors) = (service.clone(), state.clone());
                let service = service_fn(move |request| answer(service.clone(), cors.clone(), request));
                tokio::spawn(async move {
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .http1_only()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self { endpoint, folder, uploads, cors, listing, task }
    }

    /// Returns the settings of a store on this server.
    pub fn settings(&self) -> config::S3 {
        config::S3 {
            bucket: BUCKET.to_owned(),
            prefix: "visage".to_owned(),
            endpoint: self.endpoint.clone(),
            path_style: true,
            access_key: ACCESS_KEY.to_owned(),
            secret_key: config::Secret::new(SECRET_KEY),
            ..config::Settings::defaults().unwrap().storage.s3
        }
    }

    /// Sets the behaviour of listing parts from now on.
    pub fn list_parts(&self, how: ListParts) {
        *self.listing.lock().unwrap() = how;
    }

    /// Sets a CORS rule: pages of this origin may PUT.
    pub fn allow_origin(&self, origin: &str) {
        self.cors.lock().unwrap().origin = Some(origin.to_owned());
    }

    /// Returns the number of parts that pages have sent.
    pub fn cross_origin_parts(&self) -> usize {
        self.cors.lock().unwrap().parts
    }

    /// Returns the names of all objects in the bucket, without the identity of the storage.
    pub fn objects(&self) -> Vec<String> {
        let root = self.folder.path().join(BUCKET);
        let (mut folders, mut names) = (vec![root.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    names.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        // This file has the identity of the storage.
        names.retain(|name| !name.ends_with(".visage-storage"));
        names.sort();
        names
    }

    /// Returns the number of multipart uploads that are neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.uploads.lock().unwrap().len()
    }

    /// Puts an object that does not belong to visage into the bucket.
    pub fn put_foreign(&self, name: &str) {
        let path = self.folder.path().join(BUCKET).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"not ours").unwrap();
    }

    /// Puts an object into another bucket, which is made if it is missing.
    pub fn put(&self, bucket: &str, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join(bucket).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Returns whether a bucket has an object.
    pub fn has(&self, bucket: &str, name: &str) -> bool {
        self.folder.path().join(bucket).join(name).exists()
    }

    /// Begins an upload that does not belong to visage.
    pub fn begin_foreign(&self, name: &str) {
        let id = (name.to_owned(), "foreign".to_owned());
        self.uploads.lock().unwrap().insert(id, SystemTime::UNIX_EPOCH);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers requests of pages of other origins as S3 does: adds CORS headers if the rule allows the request, and
/// refuses a preflight request that it does not allow. The browser enforces the rest.
async fn answer(
    service: s3s::service::S3Service,
    cors: Arc<Mutex<CorsState>>,
    request: Request<Incoming>,
) -> Result<Response<s3s::Body>, s3s::HttpError> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD).cloned();
    let is_allowed = origin.as_ref().is_some_and(|origin| {
        let cors = cors.lock().unwrap();
        cors.origin.as_deref() == origin.to_str().ok() && asked.as_ref().is_none_or(|method| method == "PUT")
    });
    let is_put = request.method() == Method::PUT;
    let mut response = if request.method() == Method::OPTIONS {
        let mut response = Response::new(s3s::Body::empty());
        *response.status_mut() = if is_allowed { hyper::StatusCode::OK } else { hyper::StatusCode::FORBIDDEN };
        response
    } else {
        service.call(request.map(s3s::Body::from)).await?
    };
    if let Some(origin) = origin.filter(|_| is_allowed) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("PUT"));
        if is_put && response.status().is_success() {
            cors.lock().unwrap().parts += 1;
        }
    }
    Ok(response)
}

struct Backend {
    fs: FileSystem,
    uploads: Uploads,
    listing: Arc<Mutex<ListParts>>,
    /// ETags of parts by upload and number, because `s3s-fs` does not list them.
    tags: Mutex<BTreeMap<(String, i32), ETag>>,
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.fs.put_object(req).await
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.fs.get_object(req).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.fs.head_object(req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.fs.delete_object(req).await
    }

    async fn list_objects_v2(
        &self,
        mut req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        req.input.max_keys = Some(i32::try_from(PAGE).unwrap());
        self.fs.list_objects_v2(req).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let key = req.input.key.clone();
        let created = self.fs.create_multipart_upload(req).await?;
        let id = created.output.upload_id.clone().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the server uses its own clock")]
        self.uploads.lock().unwrap().insert((key, id), SystemTime::now());
        Ok(created)
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let part = (req.input.upload_id.clone(), req.input.part_number);
        let sent = self.fs.upload_part(req).await?;
        if let Some(tag) = &sent.output.e_tag {
            self.tags.lock().unwrap().insert(part, tag.clone());
        }
        Ok(sent)
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let id = (req.input.key.clone(), req.input.upload_id.clone());
        if !self.uploads.lock().unwrap().contains_key(&id) {
            return Err(s3s::s3_error!(NoSuchUpload));
        }
        let tag = |number: Option<i32>| self.tags.lock().unwrap().get(&(id.1.clone(), number?)).cloned();
        let how = *self.listing.lock().unwrap();
        match how {
            ListParts::NotImplemented => return Err(s3s::s3_error!(NotImplemented)),
            ListParts::NoSuchUpload => return Err(s3s::s3_error!(NoSuchUpload)),
            ListParts::Correct | ListParts::Nothing | ListParts::WithoutTags => {}
        }
        let mut listed = self.fs.list_parts(req).await?;
        match how {
            ListParts::Nothing => listed.output.parts = None,
            ListParts::Correct => {
                for part in listed.output.parts.iter_mut().flatten() {
                    part.e_tag = tag(part.part_number);
                }
            }
            _ => {}
        }
        Ok(listed)
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let id = (req.input.key.clone(), req.input.upload_id.clone());
        let completed = self.fs.complete_multipart_upload(req).await?;
        self.uploads.lock().unwrap().remove(&id);
        Ok(completed)
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let id = (req.input.key.clone(), req.input.upload_id.clone());
        let aborted = self.fs.abort_multipart_upload(req).await?;
        self.uploads.lock().unwrap().remove(&id);
        Ok(aborted)
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        let (prefix, after) = (
            input.prefix.clone().unwrap_or_default(),
            (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone().unwrap_or_default()),
        );
        let all = self.uploads.lock().unwrap().clone();
        let mut left: Vec<_> = all.into_iter().filter(|(id, _)| id.0.starts_with(&prefix) && *id > after).collect();
        let is_truncated = left.len() > PAGE;
        left.truncate(PAGE);
        let last = left.last().filter(|_| is_truncated).map(|(id, _)| id.clone());
        let uploads = left
            .into_iter()
            .map(|((key, id), begun)| MultipartUpload {
                key: Some(key),
                upload_id: Some(id),
                initiated: Some(begun.into()),
                ..Default::default()
            })
            .collect();
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            is_truncated: Some(is_truncated),
            next_key_marker: last.clone().map(|id| id.0),
            next_upload_id_marker: last.map(|id| id.1),
            uploads: Some(uploads),
            ..Default::default()
        }))
    }
}
