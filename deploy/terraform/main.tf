# pandas-db on AWS: a bucket, a table, a user pool, least-privilege roles, and (with create_service) two or more nodes
# on Fargate behind a Network Load Balancer. ../README.md tells how to use it.
#
# main.tf has the data and the users, rights.tf the roles, network.tf a network, service.tf the service.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  storage    = "s3://${aws_s3_bucket.data.bucket}/pandas-db"
  versions   = "dynamodb://${aws_dynamodb_table.versions.name}"
  jwt_issuer = "https://${aws_cognito_user_pool.users.endpoint}"
}

resource "aws_s3_bucket" "data" {
  bucket        = var.bucket_name == "" ? null : var.bucket_name
  bucket_prefix = var.bucket_name == "" ? "${var.name}-" : null

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "data" {
  bucket = aws_s3_bucket.data.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "data" {
  bucket                  = aws_s3_bucket.data.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "data" {
  bucket = aws_s3_bucket.data.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# The nodes may delete objects but no versions of them: what a vacuum or a mistake deletes can be brought back.
resource "aws_s3_bucket_versioning" "data" {
  bucket = aws_s3_bucket.data.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "data" {
  bucket     = aws_s3_bucket.data.id
  depends_on = [aws_s3_bucket_versioning.data]

  rule {
    id     = "expire-what-was-deleted"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = var.noncurrent_days
    }
    expiration {
      expired_object_delete_marker = true
    }
  }

  rule {
    id     = "abort-uploads-that-nobody-completes"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }
}

resource "aws_s3_bucket_policy" "data" {
  bucket = aws_s3_bucket.data.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyOverTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.data.arn, "${aws_s3_bucket.data.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

resource "aws_dynamodb_table" "versions" {
  name                        = "${var.name}-versions"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  range_key                   = "sk"
  deletion_protection_enabled = true

  attribute {
    name = "pk"
    type = "S"
  }

  attribute {
    name = "sk"
    type = "S"
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled = true
  }

  lifecycle {
    prevent_destroy = true
  }
}

# Signs tickets and handles, so that any node can serve what another one gave out.
resource "aws_secretsmanager_secret" "handle_key" {
  name_prefix = "${var.name}-handle-key-"
  description = "pandas-db --handle-key"
}

ephemeral "aws_secretsmanager_random_password" "handle_key" {
  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret_version" "handle_key" {
  secret_id                = aws_secretsmanager_secret.handle_key.id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.handle_key.random_password
  secret_string_wo_version = var.handle_key_version
}

resource "aws_ssm_parameter" "policy" {
  name        = "/${var.name}/policy"
  description = "pandas-db --policy"
  type        = "String"
  value       = var.policy_rules
}

resource "aws_cognito_user_pool" "users" {
  name                     = var.name
  auto_verified_attributes = ["email"]
  mfa_configuration        = "OPTIONAL"
  deletion_protection      = "ACTIVE"

  admin_create_user_config {
    allow_admin_create_user_only = true
  }

  account_recovery_setting {
    recovery_mechanism {
      name     = "verified_email"
      priority = 1
    }
  }

  username_configuration {
    case_sensitive = false
  }

  software_token_mfa_configuration {
    enabled = true
  }

  password_policy {
    minimum_length                   = 12
    require_lowercase                = true
    require_numbers                  = true
    require_symbols                  = false
    require_uppercase                = true
    temporary_password_validity_days = 7
  }

  schema {
    name                = "tenant"
    attribute_data_type = "String"
    mutable             = true
    string_attribute_constraints {
      min_length = "1"
      max_length = "256"
    }
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_cognito_user_pool_client" "users" {
  name                          = "pandas-db"
  user_pool_id                  = aws_cognito_user_pool.users.id
  generate_secret               = false
  explicit_auth_flows           = ["ALLOW_USER_PASSWORD_AUTH", "ALLOW_USER_SRP_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
  prevent_user_existence_errors = "ENABLED"
  enable_token_revocation       = true
  access_token_validity         = 60
  id_token_validity             = 60
  refresh_token_validity        = 30
  read_attributes               = ["email", "custom:tenant"]
  # Never custom:tenant: whoever can write it can move to any tenant.
  write_attributes = ["email"]

  token_validity_units {
    access_token  = "minutes"
    id_token      = "minutes"
    refresh_token = "days"
  }
}

resource "aws_cognito_user_group" "users" {
  for_each = {
    readers = "May read"
    writers = "May also load and change rows"
    admins  = "May also end datasets and set retention"
  }
  name         = each.key
  description  = each.value
  user_pool_id = aws_cognito_user_pool.users.id
}

resource "aws_ecr_repository" "image" {
  name                 = var.name
  image_tag_mutability = "IMMUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_cloudwatch_log_group" "logs" {
  name              = "/pandas-db/${var.name}"
  retention_in_days = var.log_retention_days
}
