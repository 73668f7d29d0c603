# The same as the parameters of ../cloudformation/pandas-db.yaml.

variable "name" {
  description = "Name of what is made"
  type        = string
  default     = "pandas-db"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name is 2 to 24 lower-case letters, digits and '-', beginning with a letter."
  }
}

variable "bucket_name" {
  description = "Name of the bucket; empty for one that is made up"
  type        = string
  default     = ""
}

variable "noncurrent_days" {
  description = "Days for which S3 keeps what was deleted or overwritten, so that a mistake can be undone"
  type        = number
  default     = 30
}

variable "vacuum_after" {
  description = "How long replaced and deleted data stays readable (--vacuum-after)"
  type        = string
  default     = "7d"
}

variable "policy_rules" {
  description = "The rules of --policy; they hold within each tenant, for the groups of the user pool"
  type        = string
  default     = <<-EOT
    [[rule]]
    group = "readers"
    prefix = "*"
    allow = "read"

    [[rule]]
    group = "writers"
    prefix = "*"
    allow = "write"

    [[rule]]
    group = "admins"
    prefix = "*"
    allow = "admin"
  EOT
}

variable "handle_key_version" {
  description = "Raise it to make a new handle key"
  type        = number
  default     = 1
}

variable "create_service" {
  description = "Make the service too; false the first time, because its image is pushed to the repository made then"
  type        = bool
  default     = false
  validation {
    condition     = !var.create_service || (var.image != "" && var.certificate_arn != "")
    error_message = "create_service needs image and certificate_arn."
  }
}

variable "image" {
  description = "Image of pandas-db, best with its digest; needed with create_service"
  type        = string
  default     = ""
}

variable "policy_image" {
  description = "Any image with sh; before each start it writes policy_rules to a file"
  type        = string
  default     = "public.ecr.aws/docker/library/busybox:1.37.0"
}

variable "desired_count" {
  description = "Nodes; any of them serves any call"
  type        = number
  default     = 2
}

variable "cpu" {
  description = "CPU units of a node; 1024 are one vCPU"
  type        = number
  default     = 2048
}

variable "memory" {
  description = "MiB of a node; Fargate allows 2 to 8 GiB for each vCPU"
  type        = number
  default     = 8192
}

variable "memory_limit" {
  description = "Of them for queries (--memory-limit), at most half; a load or an ordered read takes up to 256 MiB"
  type        = string
  default     = "3GiB"
}

variable "ephemeral_storage_gib" {
  description = "Disk of a node, for what does not fit in memory"
  type        = number
  default     = 50
}

variable "spill_limit" {
  description = "Of it for queries (--spill-limit); loads and reads take more"
  type        = string
  default     = "20GiB"
}

variable "cpu_architecture" {
  description = "What the image was built for: X86_64 or ARM64"
  type        = string
  default     = "X86_64"
}

variable "shutdown_grace_seconds" {
  description = "How long running calls get when a node stops (--shutdown-grace); Fargate kills after 120"
  type        = number
  default     = 60
  validation {
    condition     = var.shutdown_grace_seconds >= 1 && var.shutdown_grace_seconds <= 100
    error_message = "shutdown_grace_seconds is 1 to 100."
  }
}

variable "log_retention_days" {
  description = "Days for which logs and audit lines are kept"
  type        = number
  default     = 90
}

variable "certificate_arn" {
  description = "Certificate of ACM for the name that clients connect to; needed with create_service"
  type        = string
  default     = ""
}

variable "allowed_cidr" {
  description = "Addresses that may connect; nobody until told"
  type        = string
  default     = "127.0.0.1/32"
}

variable "load_balancer_scheme" {
  description = "Whether the load balancer has public addresses: internet-facing or internal"
  type        = string
  default     = "internet-facing"
}

variable "flight_port" {
  description = "Port of Flight and Flight SQL on the load balancer"
  type        = number
  default     = 443
}

variable "expose_rest" {
  description = "Offer the REST API too; /metrics is on the same port and needs no credentials"
  type        = bool
  default     = false
}

variable "rest_port" {
  description = "Port of the REST API on the load balancer"
  type        = number
  default     = 8443
}

variable "vpc_id" {
  description = "A VPC that exists, with ways to the services that are used (../README.md); empty makes one"
  type        = string
  default     = ""
}

variable "load_balancer_subnet_ids" {
  description = "Subnets of vpc_id for the load balancer"
  type        = list(string)
  default     = []
}

variable "service_subnet_ids" {
  description = "Subnets of vpc_id for the nodes"
  type        = list(string)
  default     = []
}

variable "assign_public_ip" {
  description = "Whether the nodes have public addresses in vpc_id; they need one where there is no NAT"
  type        = bool
  default     = false
}
