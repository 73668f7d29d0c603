use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::super::jwks::KeySet;
use super::*;
use crate::clock;

const ISSUER: &str = "https://issuer.example/pool";
const KID: &str = "k1";

/// An issuer with one key, and what it signs.
struct Signer {
    key: EncodingKey,
    set: KeySet,
    public: String,
}

impl Signer {
    fn new() -> Self {
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let key = EncodingKey::from_ec_der(pair.as_ref());
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(KID.into());
        let public = json!({"keys": [jwk]}).to_string();
        Self { key, set: KeySet::parse(public.as_bytes()).unwrap(), public }
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_with(|_| {}, claims)
    }

    fn sign_with(&self, change: impl FnOnce(&mut Header), claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(KID.into());
        change(&mut header);
        encode(&header, claims, &self.key).unwrap()
    }

    fn check(&self, token: &str) -> Result<Verified> {
        let id = key_id(token)?;
        let key = self.set.get(&id).ok_or_else(|| refused("unknown key"))?;
        check(token, key, &config("sub"))
    }
}

fn config(tenant_claim: &str) -> JwtConfig {
    JwtConfig {
        issuer: ISSUER.into(),
        audiences: vec!["app".into(), "other app".into()],
        discovery_url: "https://issuer.example/pool/.well-known/openid-configuration".parse().unwrap(),
        jwks_url: None,
        tenant_claim: tenant_claim.into(),
    }
}

fn claims() -> Value {
    let now = clock::now().timestamp();
    json!({"iss": ISSUER, "sub": "ann", "aud": "app", "exp": now + 600, "nbf": now - 5})
}

/// The claims with some of them set, or taken out by null.
fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

#[test]
fn good_tokens_name_their_user() {
    let signer = Signer::new();
    let now = clock::now().timestamp();
    for changes in [
        json!({}),
        json!({"aud": ["x", "app"]}),
        json!({"aud": "other app"}),
        json!({"nbf": null}),
        json!({"exp": now - 10}),
        json!({"nbf": now + 10}),
        json!({"token_use": "id"}),
        json!({"token_use": "access", "aud": null, "client_id": "app"}),
        json!({"aud": null, "client_id": "app"}),
        json!({"exp": now as f64 + 600.5}),
    ] {
        let verified = signer.check(&signer.sign(&with(changes.clone())));
        let principal = verified.unwrap_or_else(|error| panic!("{changes}: {error}")).principal;
        assert_eq!((principal.user.as_str(), principal.tenant.as_str()), ("ann", "ann"));
    }
    let typed = signer.sign_with(|header| header.typ = Some("at+JWT".into()), &claims());
    assert!(signer.check(&typed).is_ok());
}

#[test]
fn claims_that_are_missing_wrong_or_ill_typed_are_refused() {
    let signer = Signer::new();
    let now = clock::now().timestamp();
    for changes in [
        json!({"exp": null}),
        json!({"exp": now - 60}),
        json!({"exp": (now + 600).to_string()}),
        json!({"exp": [now + 600]}),
        json!({"exp": -1}),
        json!({"nbf": now + 60}),
        json!({"nbf": "soon"}),
        json!({"iss": null}),
        json!({"iss": "https://issuer.example/pool/"}),
        json!({"iss": "https://ISSUER.example/pool"}),
        json!({"iss": [ISSUER]}),
        json!({"iss": ["x", ISSUER]}),
        json!({"iss": 1}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"sub": ["ann"]}),
        json!({"sub": {"a": 1}}),
        json!({"sub": "a\u{0}b"}),
        json!({"sub": "x".repeat(300)}),
        json!({"aud": null}),
        json!({"aud": ""}),
        json!({"aud": "App"}),
        json!({"aud": []}),
        json!({"aud": [["app"]]}),
        json!({"aud": {"app": 1}}),
        json!({"aud": 1}),
        json!({"aud": "x", "client_id": "app"}),
        json!({"aud": null, "client_id": "x"}),
        json!({"aud": null, "client_id": ["app"]}),
        json!({"token_use": "id", "aud": null, "client_id": "app"}),
        json!({"token_use": "access", "aud": null}),
        json!({"token_use": "access", "aud": null, "client_id": "x"}),
        json!({"token_use": "refresh"}),
        json!({"token_use": 1}),
        json!({"groups": 1}),
        json!({"groups": [1]}),
        json!({"cognito:groups": {"a": 1}}),
    ] {
        let refused = signer.check(&signer.sign(&with(changes.clone())));
        let error = refused.err().unwrap_or_else(|| panic!("taken: {changes}"));
        assert_eq!(error.kind(), crate::error::Kind::Unauthenticated, "{changes}");
    }
}

#[test]
fn headers_cannot_choose_key_or_algorithm() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let set_by = |change: fn(&mut Header)| signer.sign_with(change, &claims());
    let jwk: Value = serde_json::from_str::<Value>(&stranger.public).unwrap()["keys"][0].clone();
    let mut own_key = Header::new(Algorithm::ES256);
    own_key.kid = Some(KID.into());
    own_key.jwk = serde_json::from_value(jwk).ok();
    own_key.jku = Some("https://evil.example/keys".into());
    own_key.x5u = Some("https://evil.example/keys".into());
    let mut tokens = vec![
        set_by(|header| header.kid = None),
        set_by(|header| header.kid = Some("k2".into())),
        set_by(|header| header.kid = Some("../k1".into())),
        set_by(|header| header.kid = Some("' OR 1=1 --".into())),
        set_by(|header| header.crit = Some(vec!["exp".into()])),
        set_by(|header| header.crit = Some(Vec::new())),
        set_by(|header| header.typ = Some("logout+jwt".into())),
        stranger.sign(&claims()),
        encode(&own_key, &claims(), &stranger.key).unwrap(),
    ];
    // The public key as the secret of an HMAC.
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let mut header = Header::new(algorithm);
        header.kid = Some(KID.into());
        tokens.push(encode(&header, &claims(), &EncodingKey::from_secret(signer.public.as_bytes())).unwrap());
    }
    for token in tokens {
        assert!(signer.check(&token).is_err(), "{token}");
    }
}

#[test]
fn tokens_that_are_unsigned_cut_or_put_together_are_refused() {
    let signer = Signer::new();
    let token = signer.sign(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    let (header, body, signature) = (parts[0], parts[1], parts[2]);
    let other = signer.sign(&with(json!({"sub": "bob"})));
    let other_body = other.split('.').nth(1).unwrap();
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let mut tokens = vec![
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        "x".into(),
        format!("{header}.{body}"),
        format!("{header}.{body}."),
        format!("{header}.{body}.{signature}.{signature}"),
        format!("{header}.{other_body}.{signature}"),
        format!("{header}.{body}.{}", &signature[..signature.len() - 4]),
        format!("{header}.{body}.{}", "A".repeat(signature.len())),
        format!(" {token}"),
        format!("{token}="),
        format!("{}.{body}.{signature}", part(json!({"alg": "ES384", "kid": KID}))),
        format!("{}.{body}.{signature}", part(json!({"alg": "RS256", "kid": KID}))),
        format!("{}.{body}.{signature}", part(json!({"alg": "EdDSA", "kid": KID}))),
        format!("{}.{body}.{signature}", part(json!({"alg": ["ES256"], "kid": KID}))),
        format!("{}.{body}.{signature}", part(json!({"kid": KID}))),
        format!("{}.{body}.{signature}", part(json!("ES256"))),
        "x".repeat(9_000),
        format!("{header}.{}.{signature}", "x".repeat(9_000)),
    ];
    for none in ["none", "None", "NONE", "nOnE", ""] {
        tokens.push(format!("{}.{body}.", part(json!({"alg": none, "kid": KID}))));
        tokens.push(format!("{}.{body}.{signature}", part(json!({"alg": none, "kid": KID}))));
    }
    for token in tokens {
        let error = signer.check(&token).err().unwrap_or_else(|| panic!("taken: {token}"));
        assert_eq!(error.kind(), crate::error::Kind::Unauthenticated, "{token}");
    }
    assert!(signer.check(&token).is_ok());
}

#[test]
fn tenants_and_groups_come_from_the_claims() {
    let signer = Signer::new();
    let principal = |claim: &str, changes: Value| {
        let token = signer.sign(&with(changes));
        let key = signer.set.get(KID).unwrap();
        check(&token, key, &config(claim)).map(|verified| verified.principal)
    };
    let acme = principal("custom:tenant", json!({"custom:tenant": "Acme / EU"})).unwrap();
    assert_eq!((acme.user.as_str(), acme.tenant.as_str()), ("ann", "Acme / EU"));
    for tenant in [json!(null), json!(""), json!(1), json!(["acme"]), json!("a\n"), json!("x".repeat(300))] {
        assert!(principal("custom:tenant", json!({"custom:tenant": tenant})).is_err(), "{tenant}");
    }
    let groups = |changes| principal("sub", changes).unwrap().groups.to_vec();
    assert_eq!(groups(json!({"cognito:groups": ["a", "b"], "groups": ["c"]})), ["a", "b"]);
    assert_eq!(groups(json!({"groups": "c"})), ["c"]);
    assert!(groups(json!({})).is_empty());
}
