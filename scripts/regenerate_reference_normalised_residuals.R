# Normalised residuals of nlme's lme, and the marginal likelihood-ratio pieces of the same fits.
# Rscript scripts/regenerate_reference_normalised_residuals.R tests/data
# nlme (Pinheiro, Bates et al.); data: tests/data/nlme_Orthodont.csv.gz, rows in its order.
suppressMessages({library(nlme); library(jsonlite)})
folder <- commandArgs(trailingOnly = TRUE)[1]
d <- read.csv(gzfile(file.path(folder, "nlme_Orthodont.csv.gz")))
d$Subject <- factor(d$Subject, levels = unique(d$Subject))
d$visit <- (d$age - 8) / 2 + 1
ctl <- lmeControl(maxIter = 500, msMaxIter = 500, tolerance = 1e-10, msTol = 1e-12, returnObject = TRUE)
fit <- lme(distance ~ age * Sex, random = ~ 1 | Subject, data = d, method = "REML",
           correlation = corAR1(form = ~ visit | Subject), weights = varIdent(form = ~ 1 | Sex),
           control = ctl)
out <- list(
  provenance = list(tool = paste("R", getRversion(), "nlme", packageVersion("nlme")),
                    script = "scripts/regenerate_reference_normalised_residuals.R",
                    formula = "distance ~ age * Sex + (1 | Subject)",
                    residual = "ar1(age | Subject)", scale = "~ Sex"),
  reml_criterion = -2 * as.numeric(logLik(fit)),
  rho = unname(coef(fit$modelStruct$corStruct, unconstrained = FALSE)),
  normalised = unname(residuals(fit, type = "normalized")),
  pearson = unname(residuals(fit, type = "pearson"))
)
writeLines(toJSON(out, auto_unbox = TRUE, digits = 10, pretty = TRUE),
           file.path(folder, "normalised_residuals.json"))
