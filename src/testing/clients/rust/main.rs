//! async-openai as the tests drive it. Each line of standard input is a call as JSON, and each line
//! of standard output what became of one; `client-process.ts` is the other side.

use std::error::Error;
use std::io::{stdin, stdout, BufRead, Write};

use async_openai::config::OpenAIConfig;
use async_openai::types::embeddings::{CreateEmbeddingRequestArgs, EncodingFormat};
use async_openai::Client;
use serde_json::{json, Value};

type Rows = Vec<Vec<f32>>;

/// The rows as numbers. Those in base64 must be the same.
async fn vectors(asked: &Value) -> Result<Rows, Box<dyn Error>> {
    let url = asked["url"].as_str().ok_or("the call has no url")?;
    let config = OpenAIConfig::new()
        .with_api_base(format!("{url}/v1"))
        .with_api_key("unused");
    let client = Client::with_config(config);
    let texts: Vec<String> = serde_json::from_value(asked["texts"].clone())?;
    let mut request = CreateEmbeddingRequestArgs::default();
    request.model("bge-m3").input(texts);

    let reply = client.embeddings().create(request.build()?).await?;
    let rows: Rows = reply.data.into_iter().map(|row| row.embedding).collect();

    request.encoding_format(EncodingFormat::Base64);
    let reply = client.embeddings().create_base64(request.build()?).await?;
    let base64: Rows = reply.data.into_iter().map(|row| row.embedding.into()).collect();
    if base64 != rows {
        return Err("base64 has other rows than float".into());
    }
    Ok(rows)
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for line in stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let told = match runtime.block_on(vectors(&asked)) {
            Ok(rows) => json!({ "id": asked["id"], "vectors": rows }),
            Err(error) => json!({ "id": asked["id"], "error": error.to_string() }),
        };
        writeln!(stdout(), "{told}")?;
    }
    Ok(())
}
