//! The keys of an issuer (RFC 7517), each with the algorithms that it may be used with.

use std::collections::HashMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use crate::error::{Error, Result};

/// Keys of a set that are looked at.
const MAX_KEYS: usize = 256;

/// A key that checks signatures.
#[derive(Clone)]
pub(super) struct VerificationKey {
    /// The key.
    pub key: DecodingKey,
    /// The one algorithm that it is for: what a token says of itself decides nothing.
    pub algorithm: Algorithm,
}

/// Keys by their ids.
#[derive(Clone, Default)]
pub(super) struct KeySet(HashMap<String, VerificationKey>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a set. Keys that are for something else, or of a kind not known here, are left out, and so are two of the
    /// same id: which of them is meant nobody could tell.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable) for what is no set, or has no key that can be used.
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let document: Document = serde_json::from_slice(text)
            .map_err(|error| Error::unavailable("the issuer's keys are no JSON Web Key Set").because(error))?;
        let usable =
            document.keys.into_iter().take(MAX_KEYS).filter_map(|key| usable(serde_json::from_value(key).ok()?));
        let (mut keys, mut twice) = (HashMap::new(), Vec::new());
        for (id, key) in usable {
            if keys.insert(id.clone(), key).is_some() {
                twice.push(id);
            }
        }
        for id in twice {
            tracing::warn!(kid = id, "the issuer has several keys of one id; none of them is used");
            keys.remove(&id);
        }
        if keys.is_empty() {
            return Err(Error::unavailable("the issuer has no key that signatures can be checked with"));
        }
        Ok(Self(keys))
    }

    /// The key of an id.
    pub(super) fn get(&self, id: &str) -> Option<&VerificationKey> {
        self.0.get(id)
    }
}

fn usable(jwk: Jwk) -> Option<(String, VerificationKey)> {
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let algorithm = algorithm(&jwk)?;
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some((jwk.common.key_id?, VerificationKey { key, algorithm }))
}

/// The algorithm of a key, by its type. A secret, which would check what its owner alone should sign, has none.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let named = jwk.common.key_algorithm;
    let only = |algorithm: Algorithm, name: KeyAlgorithm| named.is_none_or(|named| named == name).then_some(algorithm);
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => match named {
            None | Some(KeyAlgorithm::RS256) => Some(Algorithm::RS256),
            Some(KeyAlgorithm::RS384) => Some(Algorithm::RS384),
            Some(KeyAlgorithm::RS512) => Some(Algorithm::RS512),
            Some(KeyAlgorithm::PS256) => Some(Algorithm::PS256),
            Some(KeyAlgorithm::PS384) => Some(Algorithm::PS384),
            Some(KeyAlgorithm::PS512) => Some(Algorithm::PS512),
            Some(_) => None,
        },
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => only(Algorithm::ES256, KeyAlgorithm::ES256),
            EllipticCurve::P384 => only(Algorithm::ES384, KeyAlgorithm::ES384),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            only(Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    fn ec(kid: &str) -> serde_json::Value {
        json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y, "kid": kid})
    }

    #[test]
    fn the_type_of_a_key_decides_its_algorithm() {
        let mut rsa = json!({"kty": "RSA", "kid": "rsa", "n": X, "e": "AQAB", "use": "sig"});
        let set = KeySet::parse(json!({"keys": [ec("ec"), rsa]}).to_string().as_bytes()).unwrap();
        assert_eq!(set.get("ec").unwrap().algorithm, Algorithm::ES256);
        assert_eq!(set.get("rsa").unwrap().algorithm, Algorithm::RS256);
        for alg in ["HS256", "ES256", "RSA-OAEP", "none"] {
            rsa["alg"] = alg.into();
            let set = KeySet::parse(json!({"keys": [ec("ec"), rsa]}).to_string().as_bytes()).unwrap();
            assert!(set.get("rsa").is_none(), "{alg}");
        }
    }

    #[test]
    fn keys_that_cannot_be_used_are_left_out() {
        let secret = json!({"kty": "oct", "k": X, "kid": "s", "alg": "HS256"});
        let mut other_use = ec("e");
        other_use["use"] = "enc".into();
        let nameless = json!({"kty": "EC", "crv": "P-256", "x": X, "y": Y});
        let unknown = json!({"kty": "LATTICE", "kid": "u"});
        let keys = json!({"keys": [ec("a"), secret, other_use, nameless, unknown, ec("two"), ec("two"), 1]});
        let set = KeySet::parse(keys.to_string().as_bytes()).unwrap();
        assert_eq!(set.0.keys().collect::<Vec<_>>(), ["a"]);
        for text in ["", "[]", "{}", r#"{"keys": []}"#, r#"{"keys": [1]}"#, r#"{"keys": "x"}"#] {
            assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
