terraform {
  # 1.11 has attributes that are written and not kept: the handle key is in no state file.
  required_version = ">= 1.11"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7.0"
    }
  }
}
