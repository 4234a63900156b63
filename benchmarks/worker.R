# Runs lme4, glmmTMB, nlme, ordinal or lavaan on one workload in a process of its own and reports events as JSON lines.
# usage: Rscript worker.R JOB.json EVENTS.jsonl
library(jsonlite)
arguments <- commandArgs(TRUE)
job <- fromJSON(arguments[1], simplifyVector = FALSE)
model <- job$model

send <- function(event, ...) {
  line <- toJSON(list(event = event, ...), auto_unbox = TRUE, digits = NA)
  cat(line, "\n", sep = "", file = arguments[2], append = TRUE)
}
status <- function(field) {
  lines <- readLines("/proc/self/status")
  hit <- grep(paste0("^", field, ":"), lines, value = TRUE)
  as.numeric(sub("[^0-9]*([0-9]+).*", "\\1", hit)) * 1024
}
forget_peak <- function() {
  cat("5", file = "/proc/self/clear_refs")
  status("VmRSS")
}
clock <- function() as.numeric(Sys.time())

read_table <- function(folder, ids) {
  header <- fromJSON(file.path(folder, "columns.json"), simplifyVector = FALSE)
  columns <- list()
  for (column in header$columns) {
    path <- file.path(folder, paste0(column$name, ".bin"))
    columns[[column$name]] <- if (column$type == "int32") {
      readBin(path, "integer", header$n_rows, size = 4, endian = "little")
    } else {
      readBin(path, "double", header$n_rows, size = 8, endian = "little")
    }
    # grouping columns are factors before the clock starts, as in a prepared R table
    if (column$name %in% ids) columns[[column$name]] <- factor(columns[[column$name]])
  }
  as.data.frame(columns)
}

import <- function() {
  start <- clock()
  package <- switch(job$adapter, lme4_noderivs = "lme4", lme4_modular = "lme4",
    lavaan_plain = "lavaan", job$adapter)
  suppressMessages(library(package, character.only = TRUE))
  clock() - start
}
if (job$operation == "import") {
  send("fit", seconds = import(), warm_up = FALSE)
  quit(save = "no")
}
import_seconds <- import()
ids <- unique(c(unlist(lapply(model$terms, function(term) unlist(term$group))), model$residual$unit,
  unlist(model$structural$cluster)))
if (model$family == "occasions") ids <- c(ids, model$residual$time)
table <- read_table(job$data, ids)
here <- dirname(sub("--file=", "", grep("^--file=", commandArgs(), value = TRUE)))
source(file.path(here, "worker_models.R"))
# two outcomes one below the other, as a user's script would before the fit
if (model$family == "structural" && job$adapter %in% c("nlme", "glmmTMB")) table <- stacked(table)
if (job$adapter == "lme4_noderivs") {
  control <- lmerControl(calc.derivs = FALSE)
} else if (job$adapter == "lme4") {
  control <- lmerControl()
}
if (model$family == "cumulative") table[[model$response]] <- factor(table[[model$response]], ordered = TRUE)
is_intercept <- length(model$terms) == 1 && length(model$terms[[1]]$slopes) == 0
if (model$points > 1 && !is_intercept) {
  send("refused", reason = "quadrature for one random intercept only")
  quit(save = "no")
}
call_program <- function(formula) switch(paste(job$adapter, model$family),
  "lme4 binomial" = glmer(formula, table, binomial, nAGQ = model$points),
  "lme4 poisson" = glmer(formula, table, poisson, nAGQ = model$points),
  "lme4 negative_binomial" = glmer.nb(formula, table),
  "glmmTMB binomial" = glmmTMB(formula, table, binomial),
  "glmmTMB poisson" = glmmTMB(formula, table, poisson),
  "glmmTMB negative_binomial" = glmmTMB(formula, table, nbinom2),
  "ordinal cumulative" = clmm(formula, data = table, nAGQ = model$points),
  lmer(formula, table, REML = model$method == "reml", control = control))
nlme_fit <- function() {
  residual <- model$residual
  fixed <- reformulate(unlist(model$fixed), model$response)
  within <- as.formula(sprintf("~ %s | %s", residual$time, residual$unit))
  method <- toupper(model$method)
  if (residual$structure == "un") {
    weights <- varIdent(form = as.formula(paste("~ 1 |", residual$time)))
    # corSymm counts occasions from one
    within <- as.formula(sprintf("~ I(%s + 1L) | %s", residual$time, residual$unit))
    return(do.call(gls, list(fixed, data = table, correlation = corSymm(form = within),
      weights = weights, method = method)))
  }
  random <- as.formula(paste("~ 1 |", model$terms[[1]]$group[[1]]))
  do.call(lme, list(fixed, data = table, random = random, correlation = corAR1(form = within),
    method = method))
}
fit <- function(formula) {
  if (model$family %in% names(other_models)) return(suppressWarnings(suppressMessages(other_models[[model$family]]$fit())))
  if (job$adapter == "nlme") return(nlme_fit())
  suppressWarnings(suppressMessages(call_program(as.formula(formula, env = globalenv()))))
}

timed <- function(call) {
  start <- clock()
  result <- call()
  list(seconds = clock() - start, result = result)
}
measure <- function(call) {
  run <- timed(call)
  is_long <- run$seconds > job$warm_limit
  send("fit", seconds = run$seconds, warm_up = !is_long)
  count <- if (is_long) 1 else 0
  spent <- if (is_long) run$seconds else 0
  while (count < 10 * job$repeats) {
    if ((count >= job$repeats && spent >= 0.5) || (count > 0 && spent >= job$budget)) break
    run <- NULL
    gc()
    run <- timed(call)
    send("fit", seconds = run$seconds, warm_up = FALSE)
    count <- count + 1
    spent <- spent + run$seconds
  }
  run$result
}

if (startsWith(job$operation, "first_fit")) {
  run <- timed(function() fit(model$formula))
  send("fit", seconds = import_seconds + run$seconds, warm_up = FALSE)
  result <- run$result
} else if (job$operation == "refit") {
  first <- fit(job$refit_from$formula)
  new <- table[[model$response]]
  result <- measure(function() suppressWarnings(suppressMessages(refit(first, new))))
} else {
  gc()
  resident <- forget_peak()
  send("loaded", resident = resident)
  result <- measure(function() fit(model$formula))
  send("memory", above_data = status("VmHWM") - resident)
}

if (model$family %in% names(other_models)) {
  found <- other_models[[model$family]]$estimates(result)
  do.call(send, c(list("estimates"), found))
  quit(save = "no")
}
if (job$adapter == "nlme") {
  inside <- result$modelStruct
  if (model$residual$structure == "un") {
    sds <- coef(inside$varStruct, unconstrained = FALSE, allCoef = TRUE)
    sds <- sds[order(as.integer(names(sds)))]
    extra <- as.numeric(corMatrix(inside$corStruct)[[1]] * outer(sds, sds))
    G <- list()
  } else {
    extra <- as.numeric(coef(inside$corStruct, unconstrained = FALSE))
    G <- list(matrix(as.numeric(getVarCov(result)), 1))
  }
  beta <- if (inherits(result, "gls")) coef(result) else fixef(result)
  send("estimates", beta = I(unname(beta)), sigma2 = result$sigma^2, G = G, extra = I(extra),
    reported = -2 * as.numeric(logLik(result)), converged = TRUE, message = "")
  quit(save = "no")
}
blocks <- VarCorr(result)
if (job$adapter == "glmmTMB") blocks <- blocks$cond
block_of <- function(term) {
  wanted <- sort(unlist(term$group))
  for (name in names(blocks)) {
    if (identical(sort(strsplit(name, ":", fixed = TRUE)[[1]]), wanted)) {
      return(unname(matrix(as.numeric(blocks[[name]]), nrow(blocks[[name]]))))
    }
  }
  stop("no covariance for ", paste(wanted, collapse = ":"))
}
messages <- switch(job$adapter,
  glmmTMB = if (result$fit$convergence == 0) NULL else result$fit$message,
  ordinal = if (result$optRes$convergence == 0) NULL else result$optRes$message,
  result@optinfo$conv$lme4$messages)
extra <- switch(paste(job$adapter, model$family),
  "lme4 negative_binomial" = 1 / getME(result, "glmer.nb.theta"),
  "glmmTMB negative_binomial" = 1 / sigma(result),
  "ordinal cumulative" = unname(result$alpha),
  numeric(0))
beta <- switch(job$adapter, glmmTMB = fixef(result)$cond, ordinal = result$beta, fixef(result))
send("estimates",
  beta = I(unname(beta)), sigma2 = if (model$family == "gaussian") sigma(result)^2 else 1,
  G = lapply(model$terms, block_of), extra = I(extra), reported = -2 * as.numeric(logLik(result)),
  converged = is.null(messages), message = if (is.null(messages)) "" else paste(messages, collapse = "; ")
)
