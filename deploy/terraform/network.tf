# A network, when there is none to use.

locals {
  create_vpc = var.create_service && var.vpc_id == ""
  networks   = local.create_vpc ? 1 : 0
  vpc_id     = local.create_vpc ? aws_vpc.network[0].id : var.vpc_id
}

data "aws_availability_zones" "here" {
  state = "available"
}

resource "aws_vpc" "network" {
  count                = local.networks
  cidr_block           = "10.20.0.0/16"
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

resource "aws_internet_gateway" "network" {
  count  = local.networks
  vpc_id = aws_vpc.network[0].id
}

resource "aws_subnet" "network" {
  count             = 2 * local.networks
  vpc_id            = aws_vpc.network[0].id
  cidr_block        = cidrsubnet(aws_vpc.network[0].cidr_block, 4, count.index)
  availability_zone = data.aws_availability_zones.here.names[count.index]
}

resource "aws_route_table" "network" {
  count  = local.networks
  vpc_id = aws_vpc.network[0].id
}

resource "aws_route" "network" {
  count                  = local.networks
  route_table_id         = aws_route_table.network[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.network[0].id
}

resource "aws_route_table_association" "network" {
  count          = 2 * local.networks
  subnet_id      = aws_subnet.network[count.index].id
  route_table_id = aws_route_table.network[0].id
}

# Gateway endpoints cost nothing, and keep the data off the internet gateway.
resource "aws_vpc_endpoint" "network" {
  for_each          = local.create_vpc ? toset(["s3", "dynamodb"]) : toset([])
  vpc_id            = aws_vpc.network[0].id
  vpc_endpoint_type = "Gateway"
  service_name      = "com.amazonaws.${data.aws_region.current.region}.${each.key}"
  route_table_ids   = [aws_route_table.network[0].id]
}
