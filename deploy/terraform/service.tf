locals {
  services                 = var.create_service ? 1 : 0
  load_balancer_subnet_ids = local.create_vpc ? aws_subnet.network[*].id : var.load_balancer_subnet_ids
  service_subnet_ids       = local.create_vpc ? aws_subnet.network[*].id : var.service_subnet_ids

  # gRPC clients give up when HTTP/2 is not agreed on; those of REST need none.
  all_listeners = {
    flight = { port = var.flight_port, target = 50051, alpn = "HTTP2Only", wanted = true }
    rest   = { port = var.rest_port, target = 8080, alpn = "HTTP1Only", wanted = var.expose_rest }
  }
  listeners = { for name, each in local.all_listeners : name => each if var.create_service && each.wanted }

  ports = { flight = 50051, http = 8080 }

  environment = {
    AWS_REGION                 = data.aws_region.current.region
    PANDAS_DB_LISTEN           = "0.0.0.0:50051"
    PANDAS_DB_HTTP             = "0.0.0.0:8080"
    PANDAS_DB_STORAGE          = local.storage
    PANDAS_DB_VERSIONS         = local.versions
    PANDAS_DB_AUTH             = "jwt"
    PANDAS_DB_JWT_ISSUER       = local.jwt_issuer
    PANDAS_DB_JWT_AUDIENCE     = aws_cognito_user_pool_client.users.id
    PANDAS_DB_JWT_TENANT_CLAIM = "custom:tenant"
    PANDAS_DB_POLICY           = "/etc/pandas-db/policy.toml"
    PANDAS_DB_VACUUM_AFTER     = var.vacuum_after
    PANDAS_DB_MEMORY_LIMIT     = var.memory_limit
    PANDAS_DB_SPILL_DIR        = "/var/lib/pandas-db/spill"
    PANDAS_DB_SPILL_LIMIT      = var.spill_limit
    PANDAS_DB_SHUTDOWN_GRACE   = "${var.shutdown_grace_seconds}s"
    PANDAS_DB_AUDIT_LOG        = "stderr"
    PANDAS_DB_LOG_FORMAT       = "json"
  }

  log_options = {
    awslogs-group  = aws_cloudwatch_log_group.logs.name
    awslogs-region = data.aws_region.current.region
  }
}

resource "aws_security_group" "load_balancer" {
  count       = local.services
  name_prefix = "${var.name}-lb-"
  description = "Who may connect to pandas-db"
  vpc_id      = local.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "load_balancer" {
  for_each          = local.listeners
  security_group_id = aws_security_group.load_balancer[0].id
  description       = each.key
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = var.allowed_cidr
}

resource "aws_vpc_security_group_egress_rule" "load_balancer" {
  count             = local.services
  security_group_id = aws_security_group.load_balancer[0].id
  description       = "To the nodes"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_security_group" "service" {
  count       = local.services
  name_prefix = "${var.name}-nodes-"
  description = "The nodes of pandas-db, which only the load balancer reaches"
  vpc_id      = local.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "service" {
  for_each                     = { for name, port in local.ports : name => port if var.create_service }
  security_group_id            = aws_security_group.service[0].id
  description                  = each.key
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  referenced_security_group_id = aws_security_group.load_balancer[0].id
}

resource "aws_vpc_security_group_egress_rule" "service" {
  count             = local.services
  security_group_id = aws_security_group.service[0].id
  description       = "To AWS"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

# Of the Network kind, because a connection has to stay with its node: session settings of clients without cookies
# belong to their connection, and an Application Load Balancer mixes the calls of many clients on connections of its
# own. It also has no limit on the length of a stream or the streams of a connection.
resource "aws_lb" "service" {
  count              = local.services
  name               = var.name
  load_balancer_type = "network"
  internal           = var.load_balancer_scheme == "internal"
  subnets            = local.load_balancer_subnet_ids
  security_groups    = [aws_security_group.load_balancer[0].id]
  # Few long connections spread better over all nodes than over those of one zone.
  enable_cross_zone_load_balancing = true
  depends_on                       = [aws_route.network]
}

resource "aws_lb_target_group" "service" {
  for_each             = local.listeners
  name                 = "${var.name}-${each.key}"
  vpc_id               = local.vpc_id
  target_type          = "ip"
  protocol             = "TCP"
  port                 = each.value.target
  deregistration_delay = 30
  preserve_client_ip   = "true"

  health_check {
    protocol          = "HTTP"
    port              = "8080"
    path              = "/readyz"
    matcher           = "200"
    interval          = 10
    timeout           = 6
    healthy_threshold = 2
    # ECS replaces nodes that fail the check: not for a moment in which DynamoDB cannot be reached.
    unhealthy_threshold = 6
  }

  target_health_state {
    enable_unhealthy_connection_termination = false
  }
}

resource "aws_lb_listener" "service" {
  for_each          = local.listeners
  load_balancer_arn = aws_lb.service[0].arn
  port              = each.value.port
  protocol          = "TLS"
  certificate_arn   = var.certificate_arn
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  alpn_policy       = each.value.alpn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.service[each.key].arn
  }
}

resource "aws_ecs_cluster" "service" {
  count = local.services
  name  = var.name
}

resource "aws_ecs_task_definition" "service" {
  count                    = local.services
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.execution.arn

  ephemeral_storage {
    size_in_gib = var.ephemeral_storage_gib
  }

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  volume {
    name = "data"
  }

  volume {
    name = "policy"
  }

  container_definitions = jsonencode([
    {
      name                   = "policy"
      image                  = var.policy_image
      essential              = false
      readonlyRootFilesystem = true
      command                = ["sh", "-c", "printf \"%s\" \"$POLICY\" > /etc/pandas-db/policy.toml"]
      secrets                = [{ name = "POLICY", valueFrom = aws_ssm_parameter.policy.arn }]
      mountPoints            = [{ sourceVolume = "policy", containerPath = "/etc/pandas-db" }]
      logConfiguration = {
        logDriver = "awslogs"
        options   = merge(local.log_options, { awslogs-stream-prefix = "policy" })
      }
    },
    # Tries once all that the node will do, so that a right that is missing stops the deployment; on a new table it
    # leaves the mark without which no node starts.
    {
      name                   = "init"
      image                  = var.image
      essential              = false
      command                = ["init"]
      user                   = "65532:65532"
      readonlyRootFilesystem = true
      linuxParameters        = { capabilities = { drop = ["ALL"] } }
      environment = [
        { name = "AWS_REGION", value = data.aws_region.current.region },
        { name = "PANDAS_DB_LISTEN", value = "127.0.0.1:50051" },
        { name = "PANDAS_DB_STORAGE", value = local.storage },
        { name = "PANDAS_DB_VERSIONS", value = local.versions },
      ]
      logConfiguration = {
        logDriver = "awslogs"
        options   = merge(local.log_options, { awslogs-stream-prefix = "init" })
      }
    },
    {
      name      = "pandas-db"
      image     = var.image
      essential = true
      dependsOn = [
        { containerName = "policy", condition = "SUCCESS" },
        { containerName = "init", condition = "SUCCESS" },
      ]
      user                   = "65532:65532"
      readonlyRootFilesystem = true
      linuxParameters        = { capabilities = { drop = ["ALL"] } }
      portMappings           = [{ containerPort = 50051 }, { containerPort = 8080 }]
      # Longer than the grace, so that no load is cut off by SIGKILL.
      stopTimeout = 120
      ulimits     = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
      mountPoints = [
        { sourceVolume = "data", containerPath = "/var/lib/pandas-db" },
        { sourceVolume = "policy", containerPath = "/etc/pandas-db", readOnly = true },
      ]
      environment = [for name, value in local.environment : { name = name, value = value }]
      secrets     = [{ name = "PANDAS_DB_HANDLE_KEY", valueFrom = aws_secretsmanager_secret.handle_key.arn }]
      logConfiguration = {
        logDriver = "awslogs"
        options = merge(local.log_options, {
          awslogs-stream-prefix = "pandas-db"
          mode                  = "non-blocking"
          max-buffer-size       = "25m"
        })
      }
    },
  ])
}

resource "aws_ecs_service" "service" {
  count                              = local.services
  name                               = "pandas-db"
  cluster                            = aws_ecs_cluster.service[0].id
  task_definition                    = aws_ecs_task_definition.service[0].arn
  launch_type                        = "FARGATE"
  desired_count                      = var.desired_count
  health_check_grace_period_seconds  = 120
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  depends_on = [
    aws_iam_role_policy.execution,
    aws_iam_role_policy_attachment.task,
    aws_lb_listener.service,
    aws_route_table_association.network,
    aws_secretsmanager_secret_version.handle_key,
  ]

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    assign_public_ip = local.create_vpc || var.assign_public_ip
    subnets          = local.service_subnet_ids
    security_groups  = [aws_security_group.service[0].id]
  }

  dynamic "load_balancer" {
    for_each = local.listeners
    content {
      container_name   = "pandas-db"
      container_port   = load_balancer.value.target
      target_group_arn = aws_lb_target_group.service[load_balancer.key].arn
    }
  }
}
