output "bucket" {
  description = "Where the chunks and the logs of the datasets are"
  value       = aws_s3_bucket.data.bucket
}

output "table" {
  description = "Where the version records are"
  value       = aws_dynamodb_table.versions.name
}

output "storage" {
  description = "The setting --storage"
  value       = local.storage
}

output "versions" {
  description = "The setting --versions"
  value       = local.versions
}

output "user_pool_id" {
  description = "The user pool"
  value       = aws_cognito_user_pool.users.id
}

output "user_pool_client_id" {
  description = "The client of the user pool, and the setting --jwt-audience"
  value       = aws_cognito_user_pool_client.users.id
}

output "jwt_issuer" {
  description = "The setting --jwt-issuer"
  value       = local.jwt_issuer
}

output "policy_parameter" {
  description = "The parameter of the rules"
  value       = aws_ssm_parameter.policy.name
}

output "handle_key_secret" {
  description = "The secret of --handle-key"
  value       = aws_secretsmanager_secret.handle_key.arn
}

output "data_policy_arn" {
  description = "The policy of the nodes, for nodes that run elsewhere"
  value       = aws_iam_policy.data.arn
}

output "task_role_arn" {
  description = "The role of the nodes on Fargate"
  value       = aws_iam_role.task.arn
}

output "repository_uri" {
  description = "Where to push the image"
  value       = aws_ecr_repository.image.repository_url
}

output "log_group" {
  description = "Logs and audit lines"
  value       = aws_cloudwatch_log_group.logs.name
}

output "load_balancer_dns_name" {
  description = "What the name of the certificate has to point to, as an alias or CNAME record"
  value       = one(aws_lb.service[*].dns_name)
}
