//! The table `secrets`: the random secret of this installation. [`crate::secret`] uses it.

use super::{Store, StoreError};
use crate::clock::random_secret;
use crate::secret::InstallationSecret;

impl Store {
    /// Returns the secret of this installation, the same in all processes. The first call makes it.
    pub async fn secret(&self) -> Result<&InstallationSecret, StoreError> {
        self.0.secret.get_or_try_init(|| self.read_secret()).await
    }

    async fn read_secret(&self) -> Result<InstallationSecret, StoreError> {
        let corrupt = |reason: String| StoreError::Corrupt { what: "secret", reason };
        let fresh = random_secret().map_err(|error| corrupt(error.to_string()))?;
        let fresh = hex::encode(fresh);
        sqlx::query("INSERT INTO secrets (name, value) VALUES ('installation', $1) ON CONFLICT DO NOTHING")
            .bind(fresh)
            .execute(self.pool())
            .await?;
        let stored: String =
            sqlx::query_scalar("SELECT value FROM secrets WHERE name = 'installation'").fetch_one(self.pool()).await?;
        let mut secret = [0; 32];
        hex::decode_to_slice(stored, &mut secret)
            .map_err(|error| corrupt(format!("it is not 32 bytes in hexadecimal: {error}")))?;
        Ok(InstallationSecret(secret))
    }
}
