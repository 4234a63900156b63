# Reference fits of variances that are a power of the mean or of a column, by nlme (gls, lme).
# Rscript scripts/regenerate_reference_mean_power.R tests/data mean_power.json
suppressMessages({library(nlme); library(jsonlite)})
args <- commandArgs(trailingOnly = TRUE)
folder <- args[1]
read <- function(name) read.csv(gzfile(file.path(folder, name)), stringsAsFactors = TRUE)
orthodont <- read("nlme_Orthodont.csv.gz")
orthodont$visit <- (orthodont$age - 8) / 2 + 1
body <- read("nlme_BodyWeight.csv.gz")
body$Diet <- factor(body$Diet)
ctl_gls <- glsControl(opt = "optim", maxIter = 500, msMaxIter = 1000, tolerance = 1e-10, msTol = 1e-12)
ctl_lme <- lmeControl(opt = "optim", maxIter = 500, msMaxIter = 1000, tolerance = 1e-10, msTol = 1e-12)
out <- list()
keep <- function(data, formula, residual, scale, fit, method, power) {
  out[[length(out) + 1]] <<- list(
    data = data, formula = formula, residual = residual, scale = scale, method = method,
    minus2ll = -2 * as.numeric(logLik(fit)),
    beta = if (inherits(fit, "lme")) fixef(fit) else coef(fit),
    sigma = fit$sigma, power = power)
}
delta <- function(fit) as.numeric(coef(fit$modelStruct$varStruct, unconstrained = FALSE))[1]
# lme takes fitted values with random effects; here the variance follows the mean without them, so
# the mean is held as a column and taken anew until it stays
held <- function(fixed, data, random, method) {
  data$mu <- fitted(lm(fixed, data))
  for (round in 1:50) {
    fit <- do.call(lme, list(fixed, data = data, random = random, weights = varPower(form = ~mu),
                             method = method, control = ctl_lme))
    new <- fitted(fit, level = 0)
    if (max(abs(new - data$mu)) < 1e-9 * max(abs(new))) break
    data$mu <- as.numeric(new)
  }
  fit
}
for (method in c("ML", "REML")) {
  o <- distance ~ age * Sex
  w <- weight ~ Time * Diet
  mean_power <- varPower(form = ~fitted(.))
  fit <- gls(w, body, weights = mean_power, method = method, control = ctl_gls)
  keep("body", "weight ~ Time * Diet", NA, "~ power(mean)", fit, method, delta(fit))
  fit <- gls(w, body, weights = mean_power, correlation = corCAR1(form = ~Time | Rat), method = method, control = ctl_gls)
  keep("body", "weight ~ Time * Diet", "car1(Time | Rat)", "~ power(mean)", fit, method, delta(fit))
  fit <- gls(o, orthodont, weights = mean_power, correlation = corCompSymm(form = ~1 | Subject), method = method, control = ctl_gls)
  keep("orthodont", "distance ~ age * Sex", "cs(1 | Subject)", "~ power(mean)", fit, method, delta(fit))
  fit <- gls(o, orthodont, weights = varComb(varIdent(form = ~1 | Sex), mean_power), method = method, control = ctl_gls)
  keep("orthodont", "distance ~ age * Sex", NA, "~ Sex + power(mean)", fit, method,
       as.numeric(coef(fit$modelStruct$varStruct$B, unconstrained = FALSE)))
  fit <- held(w, body, ~1 | Rat, method)
  keep("body", "weight ~ Time * Diet + (1 | Rat)", NA, "~ power(mean)", fit, method, delta(fit))
  # a power of a column: half the coefficient of log(abs(x)); exp(delta x): half that of x
  fit <- gls(o, orthodont, weights = varPower(form = ~age), method = method, control = ctl_gls)
  keep("orthodont", "distance ~ age * Sex", NA, "~ log(age)", fit, method, 2 * delta(fit))
  fit <- gls(o, orthodont, weights = varExp(form = ~age), method = method, control = ctl_gls)
  keep("orthodont", "distance ~ age * Sex", NA, "~ age", fit, method, 2 * delta(fit))
}
write(toJSON(list(nlme = as.character(packageVersion("nlme")), R = R.version.string, fits = out),
             auto_unbox = TRUE, digits = 12, pretty = TRUE), file.path(folder, args[2]))
