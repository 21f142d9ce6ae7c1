//! Agents as accounts: finding one at login, a new password.

use desk::id::AgentId;
use desk::settings::Role;
use sqlx::Row as _;

use super::{Store, StoreError};

/// What a login needs to know of an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Account {
    /// Who it is.
    pub(crate) id: AgentId,
    /// As others see him.
    pub(crate) name: String,
    /// What he may do.
    pub(crate) role: Role,
    /// Argon2id in PHC form.
    pub(crate) password: String,
    /// Goes into the ticket.
    pub(crate) session_epoch: u32,
}

pub(super) fn role(text: &str) -> Result<Role, StoreError> {
    match text {
        "agent" => Ok(Role::Agent),
        "admin" => Ok(Role::Admin),
        _ => Err(StoreError::Row("an agent of no known role")),
    }
}

pub(super) fn id_of(bytes: &[u8]) -> Option<u128> {
    Some(u128::from_be_bytes(bytes.try_into().ok()?))
}

impl Store {
    /// The enabled account with this address, in any case.
    pub(crate) async fn account(&self, email: &str) -> Result<Option<Account>, StoreError> {
        let row = sqlx::query(
            "SELECT id, name, role, password, session_epoch FROM agent WHERE email = ? AND enabled = 1",
        )
        .bind(email)
        .fetch_optional(&self.pool)
        .await
        .map_err(|error| self.failed(error))?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Account {
            id: id_of(row.get(0))
                .and_then(AgentId::from_bits)
                .ok_or(StoreError::Row("an agent's id of another kind"))?,
            name: row.get(1),
            role: role(row.get(2))?,
            password: row.get(3),
            session_epoch: row.get::<u32, _>(4),
        }))
    }

    /// Sets the password and ends all sessions of the agent. `false`: nobody has this address.
    pub(crate) async fn set_password(&self, email: &str, password: &str) -> Result<bool, StoreError> {
        let failed = |error| self.failed(error);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let found =
            sqlx::query("UPDATE agent SET password = ?, session_epoch = session_epoch + 1 WHERE email = ?")
                .bind(password)
                .bind(email)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?
                .rows_affected();
        sqlx::query("UPDATE counter SET value = value + 1 WHERE name = 'changes'")
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(found == 1)
    }
}
