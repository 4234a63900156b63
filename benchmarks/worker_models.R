# Models of worker.R with calls and estimates of their own: structural models by lavaan and by the
# stacked regressions of nlme and glmmTMB, effects of occasions by glmmTMB, related levels by lme4
# with its Zt replaced. Sourced by worker.R, which defines `job`, `model` and `table`.

answer <- function(reported, message = "", beta = numeric(0), sigma2 = 1, G = list(),
                   extra = numeric(0), parameters = list()) {
  list(beta = I(beta), sigma2 = sigma2, G = G, extra = I(extra), parameters = parameters,
    reported = reported, converged = identical(message, ""), message = message)
}
rows_of <- function(level, lhs, op, rhs, value) {
  lapply(seq_along(lhs), function(k) list(level[k], lhs[k], op[k], rhs[k], value[k]))
}

# -- lavaan -----------------------------------------------------------------------------------------
lavaan_fit <- function() {
  options <- list(model = model$structural$text, data = table,
    cluster = unlist(model$structural$cluster))
  if (anyNA(table)) options$missing <- "ml"
  if (job$adapter == "lavaan_plain") {
    options <- c(options, list(test = "none", baseline = FALSE, h1 = FALSE))
  }
  do.call("sem", options)
}
lavaan_estimates <- function(fit) {
  lines <- parTable(fit)
  lines <- lines[lines$op %in% c("~", "~~", "=~", "~1"), ]
  ok <- lavInspect(fit, "converged")
  answer(-2 * as.numeric(logLik(fit)), if (ok) "" else "not converged",
    parameters = rows_of(lines$level, lines$lhs, lines$op, lines$rhs, lines$est))
}

# -- m ~ a x, y ~ b m + x with random a, b and intercepts, both outcomes in one column -----------------
stacked <- function(wide) {
  n <- nrow(wide)
  first <- rep(c(1, 0), each = n)
  data.frame(z = c(wide$m, wide$y), dm = first, dy = 1 - first, mx = first * wide$x,
    ym = (1 - first) * wide$m, yx = (1 - first) * wide$x, outcome = factor(2 - first),
    cluster = rep(wide$cluster, 2))
}
stacked_fit <- function() {
  if (job$adapter == "nlme") {
    return(lme(z ~ 0 + dm + dy + mx + ym + yx, table, random = ~ 0 + dm + dy + mx + ym | cluster,
      weights = varIdent(form = ~ 1 | outcome), method = "ML"))
  }
  glmmTMB(z ~ 0 + dm + dy + mx + ym + yx + (0 + dm + dy + mx + ym | cluster), table,
    dispformula = ~ outcome)
}
stacked_estimates <- function(fit) {
  if (job$adapter == "nlme") {
    beta <- fixef(fit)
    G <- as.matrix(getVarCov(fit))
    ratio <- coef(fit$modelStruct$varStruct, unconstrained = FALSE, allCoef = TRUE)
    sds <- fit$sigma * ratio[c("1", "2")]
    message <- ""
  } else {
    beta <- fixef(fit)$cond
    G <- VarCorr(fit)$cond$cluster
    at <- match(c("1", "2"), table$outcome)
    sds <- predict(fit, type = "disp")[at]
    message <- if (fit$fit$convergence == 0) "" else fit$fit$message
  }
  names <- c("m", "y", "a", "b")
  pairs <- which(lower.tri(diag(4), diag = TRUE), arr.ind = TRUE)
  lines <- c(
    rows_of(rep(2, 4), names, rep("~1", 4), rep("", 4), unname(beta[c("dm", "dy", "mx", "ym")])),
    rows_of(rep(2, 10), names[pairs[, 1]], rep("~~", 10), names[pairs[, 2]], as.numeric(G[pairs])),
    rows_of(c(1, 1, 1), c("y", "m", "y"), c("~", "~~", "~~"), c("x", "m", "y"),
      unname(c(beta["yx"], sds^2))))
  answer(-2 * as.numeric(logLik(fit)), message, parameters = lines)
}

# -- effects of the occasions of a unit ------------------------------------------------------------------
occasions_fit <- function() {
  inside <- model$residual
  right <- sprintf("ar1(0 + %s | %s)", inside$time, inside$unit)
  formula <- reformulate(c(unlist(model$fixed), right), model$response)
  environment(formula) <- globalenv()
  glmmTMB(formula, table, REML = model$method == "reml")
}
occasions_estimates <- function(fit) {
  block <- VarCorr(fit)$cond[[1]]
  sigma2 <- sigma(fit)^2
  message <- if (fit$fit$convergence == 0) "" else fit$fit$message
  answer(-2 * as.numeric(logLik(fit)), message, beta = unname(fixef(fit)$cond), sigma2 = sigma2,
    extra = c(attr(block, "correlation")[1, 2], block[1, 1] / sigma2))
}

# -- related levels: lme4 with another Zt ----------------------------------------------------------------
# memberships: a row of Zt for each school, weights as entries
membership_Zt <- function() {
  columns <- unlist(model$relation$columns)
  weights <- unlist(model$relation$others)
  level <- unlist(table[columns]) + 1L
  value <- unlist(table[weights])
  total <- rowSums(table[weights])
  n <- nrow(table)
  Matrix::sparseMatrix(i = level, j = rep(seq_len(n), length(columns)),
    x = as.numeric(value) / rep(total, length(columns)), dims = c(max(level), n))
}
# animals: A = (T D^.5)(T D^.5)', T^-1 = I - (half of each parent) (Henderson 1976)
pedigree_Zt <- function() {
  animal <- table[[unlist(model$relation$columns)]]
  at <- match(seq_len(max(animal)), animal)
  parents <- lapply(unlist(model$relation$others), function(name) table[[name]][at])
  size <- length(at)
  child <- rep(seq_len(size), 2)
  parent <- unlist(parents)
  known <- parent > 0
  inverse <- Matrix::sparseMatrix(i = c(seq_len(size), child[known]),
    j = c(seq_len(size), parent[known]), x = c(rep(1, size), rep(-0.5, sum(known))))
  own <- Matrix::sparseMatrix(i = animal, j = seq_along(animal), x = 1)
  # D^.5 T' Z'
  Matrix::Diagonal(x = sqrt(table$mendelian[at])) %*% Matrix::solve(Matrix::t(inverse), own)
}
related_fit <- function() {
  Zt <- as(if (model$relation$kind == "mm") membership_Zt() else pedigree_Zt(), "CsparseMatrix")
  # a factor with as many levels as effects: its Zt is replaced
  table$level <- factor(rep_len(seq_len(nrow(Zt)), nrow(table)))
  formula <- reformulate(c(unlist(model$fixed), "(1 | level)"), model$response)
  parts <- lFormula(formula, table, REML = model$method == "reml")
  dimnames(Zt) <- dimnames(parts$reTrms$Zt)
  parts$reTrms$Zt <- Zt
  deviance <- do.call(mkLmerDevfun, parts)
  mkMerMod(environment(deviance), optimizeLmer(deviance), parts$reTrms, parts$fr)
}
related_estimates <- function(fit) {
  answer(as.numeric(REMLcrit(fit)), "", beta = unname(fixef(fit)), sigma2 = sigma(fit)^2,
    G = list(matrix(as.numeric(VarCorr(fit)$level), 1)))
}

other_models <- list(
  structural = if (startsWith(job$adapter, "lavaan")) {
    list(fit = lavaan_fit, estimates = lavaan_estimates)
  } else {
    list(fit = stacked_fit, estimates = stacked_estimates)
  },
  occasions = list(fit = occasions_fit, estimates = occasions_estimates),
  related = list(fit = related_fit, estimates = related_estimates))
